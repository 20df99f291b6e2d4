"""The backend of the chaos test: does each POST once, and dies, swells or fails to start when told to. Standard library only.

GET  /…                  200 after `ms` milliseconds
POST /do?id=7            writes the id to the file of things done, then 200
GET  /swell?mb=50        keeps so much memory for ever
GET  /die                sends half of a response and dies
"""

import json
import os
import socket
import sys
import threading
import time
from urllib.parse import parse_qsl, urlsplit

from balancer import backend


def serve(sock: socket.socket, done: int, kept: list[bytes]) -> None:
    """One connection."""
    with sock, sock.makefile("rb") as reader:
        while line := reader.readline():
            method, target, _ = line.decode("latin-1").split()
            length = 0
            while (field := reader.readline().strip()) != b"":
                if field.lower().startswith(b"content-length:"):
                    length = int(field.partition(b":")[2])
            reader.read(length)
            url = urlsplit(target)
            query = dict(parse_qsl(url.query))
            time.sleep(float(query.get("ms", "0")) / 1000)  # being slow is what the option is for
            if url.path == "/do":
                os.write(done, f"{query['id']}\n".encode())
            elif url.path == "/swell":
                kept.append(os.urandom(1024) * (int(query["mb"]) * 1024))
            elif url.path == "/die":
                sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it")
                os._exit(4)
            body = json.dumps([method, target]).encode()
            sock.sendall(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + (b"" if method == "HEAD" else body)
            )


def main() -> None:
    """sys.argv: the file of things done, the file that says that no start succeeds while it exists."""
    if os.path.exists(sys.argv[2]):
        sys.exit(3)
    done = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])), backlog=1024)
    kept: list[bytes] = []

    def beat() -> None:
        while backend.heartbeat():
            time.sleep(0.3)  # a heartbeat is a matter of time

    threading.Thread(target=beat, daemon=True).start()
    while True:
        sock, _ = listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=answer, args=(sock, done, kept), daemon=True).start()


def answer(sock: socket.socket, done: int, kept: list[bytes]) -> None:
    """A client that leaves is nothing to report."""
    try:
        serve(sock, done, kept)
    except (OSError, ValueError):
        pass


if __name__ == "__main__":
    main()
