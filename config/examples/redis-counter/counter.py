"""A counter that survives its processes: the number is in Redis, so every backend sees the same and none can lose it.

    GET  /          the number, and which backend says it
    POST /          one more
    GET  /healthz   200 while Redis answers

Standard library only. Redis is told what to do in one command, INCR, which it carries out whole: reading, adding and writing back would
lose counts as soon as two processes do it at once.
"""

import os
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import BinaryIO
from urllib.parse import urlsplit

KEY = os.environ.get("COUNTER_KEY", "visits")
TIMEOUT = 2.0  # seconds


class Redis:
    """One connection, for one thread; opened when it is needed, again when it broke."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 6379)
        self._sock: socket.socket | None = None
        self._reader: BinaryIO

    def ask(self, *words: str) -> str:
        """The answer to a command: a number or a text, "" for nothing. Raises OSError when Redis cannot be reached or refuses."""
        # A connection that was idle may have been closed meanwhile. Only reading may be tried twice.
        may_retry = words[0] != "INCR"
        if self._sock is None:
            self._sock = socket.create_connection(self._address, TIMEOUT)
            self._reader = self._sock.makefile("rb")
            may_retry = False
        try:
            return self._exchange(words)
        except OSError:
            self._sock.close()
            self._sock = None
            if not may_retry:
                raise
            return self.ask(*words)

    def _exchange(self, words: tuple[str, ...]) -> str:
        """RESP, the protocol of Redis: an array of strings there, one value back."""
        assert self._sock is not None
        parts = [word.encode() for word in words]
        request = b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        self._sock.sendall(request)
        line = self._line()
        if line[:1] == b"-":
            raise OSError(line[1:].decode())
        if line[:1] != b"$":
            return line[1:].decode()
        return "" if line == b"$-1" else self._line().decode()

    def _line(self) -> bytes:
        line = self._reader.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("Redis closed the connection")
        return line[:-2]


class Handler(BaseHTTPRequestHandler):
    """One client connection."""

    protocol_version = "HTTP/1.1"
    own = threading.local()

    @property
    def redis(self) -> Redis:
        """This thread's connection."""
        if not hasattr(self.own, "redis"):
            self.own.redis = Redis(os.environ.get("REDIS_URL", "redis://127.0.0.1:6379"))
        redis: Redis = self.own.redis
        return redis

    def do_GET(self) -> None:
        """The number, or how we are."""
        self.answer("PING" if self.path == "/healthz" else "GET")

    def do_POST(self) -> None:
        """Count."""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.answer("INCR")

    def answer(self, command: str) -> None:
        """What Redis says."""
        try:
            number = self.redis.ask(*((command,) if command == "PING" else (command, KEY)))
            self.reply(200, f"{number or 0} from {os.environ.get('BALANCER_BACKEND', 'nobody')}\n")
        except OSError as error:
            self.reply(503, f"Redis: {error}\n")

    def reply(self, status: int, text: str) -> None:
        """A short plain answer."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """The balancer has an access log."""


if __name__ == "__main__":
    server = ThreadingHTTPServer((os.environ.get("HOST", "127.0.0.1"), int(os.environ.get("PORT", "8000"))), Handler)
    server.daemon_threads = True
    server.serve_forever()
