"""A scripted backend: `python tests/support/app.py --port {port}`. Standard library only, up in 30 ms.

Speaks HTTP/1.1 with keep-alive, one thread per connection, and installs no signal handler: SIGTERM ends it at once.

    GET  /…                 {"pid", "backend", "generation", "method", "target", "headers": [[name, value], …]}
    GET  /slow?ms=200       the same after that long; `then=exit` makes it die instead of answering
    GET  /slow?until=FILE   the same once that file is there
    ANY  /echo              the request's body, as it came (Content-Length or chunked)
    GET  /bytes?n=1000      n bytes
    GET  /chunks?n=5&ms=20  n chunked lines, so far apart; `cut=1` closes before the last chunk, `exit=1` dies there
    GET  /status?code=503   that status
    GET  /exit?code=3       dies in the middle of the exchange
    GET  /healthz           200; 503 while the file named by --sick exists
    GET  /env?name=PORT     that environment variable
"""

import argparse
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from io import IOBase
from urllib.parse import parse_qsl, urlsplit

PIECE = 64 * 1024


def body_pieces(reader: IOBase, headers: list[tuple[str, str]]) -> Iterator[bytes]:
    """The body of a request whose head was read, as it arrives."""
    fields = {name.lower(): value for name, value in headers}
    if fields.get("transfer-encoding", "").lower() == "chunked":
        while size := int(reader.readline().split(b";")[0], 16):
            yield reader.read(size)
            reader.readline()
        while reader.readline().strip():
            pass
        return
    left = int(fields.get("content-length", "0"))
    while left:
        piece = reader.read(min(left, PIECE))
        if not piece:
            raise ConnectionError("the body was cut short")
        left -= len(piece)
        yield piece


class Faults:
    """What the options say goes wrong, counted over all connections."""

    def __init__(self, errors: float, crash_after: int, broken: str, grow: int) -> None:
        self.errors = errors
        self.crash_after = crash_after
        self.broken = broken
        self.grow = grow
        self.count = 0
        self.kept: list[bytes] = []
        self.lock = threading.Lock()

    def next_status(self) -> int:
        """What the next request is to be answered with; 0: what it asks for."""
        with self.lock:
            self.count += 1
            count = self.count
        if self.crash_after and count > self.crash_after:
            os._exit(1)
        if self.grow:
            self.kept.append(os.urandom(self.grow))  # not zeros: those would take no memory
        if self.broken and os.path.exists(self.broken):
            return 500
        return 500 if int(count * self.errors) > int((count - 1) * self.errors) else 0


class Exchanges:
    """One client connection: requests one after another until either side closes."""

    def __init__(self, sock: socket.socket, sick: str, delay: float, faults: Faults) -> None:
        self.sock = sock
        self.faults = faults
        self.reader = sock.makefile("rb", PIECE)
        self.sick = sick
        self.delay = delay

    def run(self) -> None:
        """Answer until the connection ends; a client that leaves is nothing to report."""
        try:
            with self.sock, self.reader:
                while self.answer_one():
                    pass
        except (OSError, ValueError):
            pass

    def answer_one(self) -> bool:
        """Read a request and answer it. False: the connection is over."""
        line = self.reader.readline()
        if not line:
            return False
        method, target, version = line.decode("latin-1").split()
        headers: list[tuple[str, str]] = []
        while (field := self.reader.readline().decode("latin-1").strip()) != "":
            name, _, value = field.partition(":")
            headers.append((name, value.strip()))
        fields = {name.lower(): value.lower() for name, value in headers}
        if fields.get("expect") == "100-continue":
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        keep = version == "HTTP/1.1" and fields.get("connection") != "close"
        if self.delay:
            time.sleep(self.delay)  # a request that takes its time is what the option is for
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        body = body_pieces(self.reader, headers)
        status = self.faults.next_status() if url.path != "/healthz" else 0
        if status:
            url, query = url._replace(path="/status"), {"code": str(status)}
        if url.path == "/echo":
            self.echo(body, fields, keep)
            return keep
        for _ in body:
            pass
        return self.route(method, url.path, query, headers, keep)

    def route(self, method: str, path: str, query: dict[str, str], headers: list[tuple[str, str]], keep: bool) -> bool:
        """Do what the path says; the module's docstring is the list."""
        content_type = b"text/plain"
        status = 200
        match path:
            case "/exit":
                os._exit(int(query.get("code", "1")))
            case "/bytes":
                body = bytes(int(query["n"]))
            case "/chunks":
                goes_on = self.chunks(
                    int(query.get("n", "5")),
                    float(query.get("ms", "0")) / 1000,
                    not query.keys().isdisjoint({"cut", "exit"}),
                    keep,
                )
                if "exit" in query:
                    os._exit(1)
                return goes_on
            case "/status":
                status, body = int(query["code"]), b"as asked\n"
            case "/healthz":
                status, body = (503, b"sick\n") if self.sick and os.path.exists(self.sick) else (200, b"ok\n")
            case "/env":
                body = os.environ.get(query["name"], "").encode()
            case _:
                if path == "/slow" and "until" in query:
                    wait_for(query["until"])
                elif path == "/slow":
                    time.sleep(float(query.get("ms", "200")) / 1000)  # being slow is what this path is for
                    if query.get("then") == "exit":
                        os._exit(1)
                content_type = b"application/json"
                body = self.describe(method, path, headers)
        head = b"HTTP/1.1 %d Status\r\nContent-Type: %s\r\nContent-Length: %d\r\n" % (status, content_type, len(body))
        self.sock.sendall(head + connection_field(keep) + b"\r\n" + (b"" if method == "HEAD" else body))
        return keep

    def describe(self, method: str, target: str, headers: list[tuple[str, str]]) -> bytes:
        """Who answered, and what arrived."""
        picture = {
            "pid": os.getpid(),
            "backend": os.environ.get("BALANCER_BACKEND", ""),
            "generation": os.environ.get("BALANCER_GENERATION", ""),
            "method": method,
            "target": target,
            "headers": headers,
        }
        return json.dumps(picture).encode()

    def echo(self, body: Iterator[bytes], fields: dict[str, str], keep: bool) -> None:
        """Send the body back piece by piece, framed as it came."""
        chunked = "content-length" not in fields
        framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: " + fields["content-length"].encode()
        self.sock.sendall(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n" + connection_field(keep) + b"\r\n")
        for piece in body:
            self.sock.sendall(b"%x\r\n%s\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            self.sock.sendall(b"0\r\n\r\n")

    def chunks(self, count: int, apart: float, cut: bool, keep: bool) -> bool:
        """A chunked response of `count` lines, `apart` seconds between two; cut: it breaks off before its end."""
        self.sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + connection_field(keep) + b"\r\n")
        for number in range(count):
            line = b"line %d\n" % number
            self.sock.sendall(b"%x\r\n%s\r\n" % (len(line), line))
            time.sleep(apart)  # a slow stream is what this path is for
        if cut:
            return False
        self.sock.sendall(b"0\r\n\r\n")
        return keep


def wait_for(file: str) -> None:
    """Until the file is there, which another process makes: there is no event."""
    while not os.path.exists(file):
        time.sleep(0.005)


def connection_field(keep: bool) -> bytes:
    """Said only when the connection ends: keep-alive is what HTTP/1.1 means by itself."""
    return b"" if keep else b"Connection: close\r\n"


def main() -> None:
    """Do what the options say, then serve until killed."""
    options = argparse.ArgumentParser()
    options.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"))
    options.add_argument("--port", type=int, default=int(os.environ.get("PORT", "0")))
    options.add_argument("--boot-delay", type=float, default=0.0, metavar="SECONDS")
    options.add_argument("--boot-until", default="", metavar="FILE", help="starts once this file is there")
    options.add_argument("--delay", type=float, default=0.0, metavar="SECONDS", help="each answer takes so long")
    options.add_argument("--exit-at-boot", type=int, metavar="CODE")
    options.add_argument("--ignore-term", action="store_true", help="only SIGKILL ends it")
    options.add_argument("--never-listen", action="store_true")
    options.add_argument(
        "--say", metavar="JSON", help="write this line to the channel (NODE_CHANNEL_FD) once listening"
    )
    options.add_argument("--sick", default="", metavar="FILE", help="/healthz answers 503 while this file exists")
    options.add_argument("--errors", type=float, default=0.0, metavar="SHARE", help="so many of the answers are 500")
    options.add_argument("--broken", default="", metavar="FILE", help="all answers are 500 while this file exists")
    options.add_argument("--crash-after", type=int, default=0, metavar="N", help="dies instead of a further answer")
    options.add_argument("--grow", type=int, default=0, metavar="BYTES", help="each request leaks so much")
    options.add_argument("--ballast", type=int, default=0, metavar="BYTES", help="holds so much memory from the start")
    given = options.parse_args()
    faults = Faults(given.errors, given.crash_after, given.broken, given.grow)
    if given.ignore_term:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faults.kept.append(os.urandom(given.ballast))
    time.sleep(given.boot_delay)  # a slow start is what the option is for
    if given.boot_until:
        wait_for(given.boot_until)
    if given.exit_at_boot is not None:
        raise SystemExit(given.exit_at_boot)
    if given.never_listen:
        threading.Event().wait()
    family = socket.AF_INET6 if ":" in given.host else socket.AF_INET
    listener = socket.create_server((given.host, given.port), family=family, backlog=1024)
    print(f"listening on {given.host}:{listener.getsockname()[1]}", flush=True)
    if given.say:
        os.write(int(os.environ["NODE_CHANNEL_FD"]), given.say.encode() + b"\n")
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=Exchanges(sock, given.sick, given.delay, faults).run, daemon=True).start()


if __name__ == "__main__":
    main()
