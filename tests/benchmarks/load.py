"""The load: one run of wrk and what it counted, and idle connections."""

import http.client
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.handshakes import trusting_all
from tests.support.programs import find

SCRIPT = Path(__file__).with_name("requests.lua")


@dataclass(frozen=True)
class Shape:
    """What one row sends."""

    path: str = "*"
    method: str = "GET"
    body: int = 0  # bytes
    answer: int = 100  # bytes that the right answer's body has
    connection: str = "keep"  # or "close": a new connection for each request
    connections: int = 64
    different: int = 4096  # so many heads, in turn
    tls: bool = False


@dataclass(frozen=True)
class Counted:
    """What came of it. Latencies in milliseconds; `trouble` is "" or says why the run counts for nothing."""

    requests: int
    seconds: float
    received: int  # bytes
    p50: float
    p99: float
    trouble: str


def send(shape: Shape, port: int, core: int, seconds: float) -> Counted:
    """Load 127.0.0.1:port for so long, from that core. Raises RuntimeError when wrk itself fails."""
    look(shape, port)
    # wrk counts whole seconds only.
    command = [
        "taskset", "-c", str(core), find("wrk") or "wrk", "-t1", f"-c{shape.connections}", f"-d{max(1, round(seconds))}s",
        "--timeout", "10s", "-s", str(SCRIPT), f"{'https' if shape.tls else 'http'}://127.0.0.1:{port}/", "--",
        str(shape.different), shape.method, shape.path, str(shape.body), shape.connection,
    ]  # fmt: skip
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30)
    line = next((line for line in done.stdout.splitlines() if line.startswith("RESULT ")), None)
    if line is None:
        raise RuntimeError(f"wrk: {done.stdout}{done.stderr}")
    numbers = [float(word) for word in line.split()[1:]]
    requests, duration, received = int(numbers[0]), numbers[1] / 1e6, int(numbers[2])
    kinds = ("connect", "read", "write", "status", "timeout")
    trouble = ", ".join(f"{n:.0f} {kind} errors" for kind, n in zip(kinds, numbers[3:8], strict=True) if n)
    if not requests:
        trouble = trouble or "no answers"
    return Counted(requests, duration, received, numbers[8] / 1000, numbers[9] / 1000, trouble)


def look(shape: Shape, port: int) -> None:
    """Ask once by hand: wrk would take any 200 for an answer. Raises RuntimeError when it is not the origin's, whole."""
    connection = (
        http.client.HTTPSConnection("127.0.0.1", port, timeout=10, context=trusting_all())
        if shape.tls
        else http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    )
    path = "/shop" if shape.path == "*" else shape.path
    connection.request(shape.method, path, b"x" * shape.body, {"Host": "www.example.com"})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    if answer.status != 200 or len(body) != shape.answer:
        raise RuntimeError(f"{shape.method} {path}: {answer.status} with {len(body)} bytes, not {shape.answer}")
    if not answer.getheader("X-Request-ID"):
        raise RuntimeError("no X-Request-ID came back: this peer does less than the others")


def idle_connections(port: int, count: int) -> list[socket.socket]:
    """So many kept connections, each after one request. Raises RuntimeError when an answer is not 200."""
    request = b"GET /idle HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: idle\r\nAccept: */*\r\nCookie: a=b\r\n\r\n"
    found = []
    for _ in range(count):
        sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        sock.sendall(request)
        answer = sock.recv(65536)
        if not answer.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"an idle connection was answered with {answer[:40]!r}")
        found.append(sock)
    return found
