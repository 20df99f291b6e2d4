"""Hostile clients, in a process of their own: `python -m tests.e2e.attack KIND PORT COUNT`.

Opens so many connections, writes "ready" and goes on until its stdin ends. What the other side thinks of it is not looked at.
"""

import selectors
import socket
import sys
import time
from collections.abc import Callable, Iterator

HEAD = b"GET / HTTP/1.1\r\nHost: a\r\n"
POST = b"POST /echo HTTP/1.1\r\nHost: a\r\n"
PAUSE = 0.5  # seconds before a connection that makes way for a new one says its piece
DRIP = 0.2  # seconds between two bytes of a slow client
# What a connection sends: pieces, each as soon as the socket takes it; a number is a pause in seconds.
Script = Iterator[bytes | float]


def slow_head() -> Script:
    """A byte of a head now and then."""
    yield HEAD
    while True:
        yield DRIP
        yield b"a"


def slow_body() -> Script:
    """A byte of a body now and then."""
    yield POST + b"Content-Length: 1000000\r\n\r\n"
    while True:
        yield DRIP
        yield b"a"


def slow_reader() -> Script:
    """A large answer, and nobody who reads it."""
    yield b"GET /bytes?n=3000000 HTTP/1.1\r\nHost: a\r\n\r\n"


def header_bomb() -> Script:
    """As much of a head as is allowed, and no end."""
    yield HEAD + b"X-A: b\r\n" * 98
    yield b"X-A: " + b"a" * 31_000


def header_flood() -> Script:
    """Heads that are too large, one after the other."""
    yield PAUSE
    yield HEAD + b"X-A: b\r\n" * 2000 + b"X: " + b"a" * 20_000


def silence() -> Script:
    """A connection, and nothing on it."""
    yield 3600.0


def half_open() -> Script:
    """One request, and then nothing ever again."""
    yield HEAD + b"\r\n"


def tiny_chunks() -> Script:
    """A body of one byte per chunk, as fast as it goes."""
    yield POST + b"Transfer-Encoding: chunked\r\n\r\n"
    while True:
        yield b"1\r\na\r\n" * 2000


def pipelining() -> Script:
    """Requests without end, as fast as they are taken, and nobody who reads the answers."""
    while True:
        yield (HEAD + b"\r\n") * 200


def connections() -> Script:
    """A request that is not waited for; then a new connection."""
    yield PAUSE
    yield HEAD + b"\r\n"


KINDS: dict[str, Callable[[], Script]] = {
    "slow-head": slow_head,
    "slow-body": slow_body,
    "slow-reader": slow_reader,
    "header-bomb": header_bomb,
    "header-flood": header_flood,
    "silence": silence,
    "half-open": half_open,
    "tiny-chunks": tiny_chunks,
    "pipelining": pipelining,
    "connections": connections,
}
AGAIN = frozenset(("header-flood", "connections"))  # a new connection after each script


class Attacker:
    """One connection after the other."""

    def __init__(self, kind: str, port: int) -> None:
        self.kind = kind
        self.port = port
        self.sock: socket.socket
        self.script: Script
        self.rest = b""
        self.due = 0.0
        self.is_done = False
        self.connect()

    def connect(self) -> None:
        """Begin."""
        self.sock = socket.socket()
        if self.kind in ("slow-reader", "pipelining"):
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.setblocking(False)
        self.sock.connect_ex(("127.0.0.1", self.port))
        self.script = KINDS[self.kind]()
        self.rest = b""
        self.due = 0.0
        self.is_done = False

    def go_on(self, now: float) -> None:
        """Send what there is to send."""
        if now < self.due or self.is_done:
            return
        try:
            if not self.rest:
                step = next(self.script)
                if isinstance(step, float):
                    self.due = now + step
                    return
                self.rest = step
            self.rest = self.rest[self.sock.send(self.rest) :]
        except BlockingIOError:
            return
        except StopIteration:
            self.is_done = True
        except OSError:
            self.is_done = True  # shown the door
        if self.is_done and self.kind in AGAIN:
            self.sock.close()
            self.connect()


def main(kind: str, port: int, count: int) -> None:
    """See the module."""
    attackers = [Attacker(kind, port) for _ in range(count)]
    stop = selectors.DefaultSelector()
    stop.register(sys.stdin, selectors.EVENT_READ)
    is_told = False
    while not stop.select(0):
        now = time.monotonic()
        for attacker in attackers:
            attacker.go_on(now)
        if not is_told:
            is_told = True
            print("ready", flush=True)
        time.sleep(0.001)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
