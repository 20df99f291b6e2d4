"""HTTP/1.1 for one request and its answer, over a blocking socket; bodies go piece by piece in both directions."""

import socket
import threading
from collections.abc import Iterator
from io import BufferedReader
from urllib.parse import parse_qsl, unquote, urlsplit

PIECE = 64 * 1024
MAX_HEAD = 64 * 1024
PHRASES = {
    101: "Switching Protocols",
    200: "OK",
    404: "Not Found",
    426: "Upgrade Required",
    500: "Internal Server Error",
}


class BadRequest(Exception):
    """The request cannot be understood; the text says why."""


class Exchange:
    """One request and the way to answer it."""

    def __init__(
        self,
        sock: socket.socket,
        reader: BufferedReader,
        stopping: threading.Event,
        request_line: tuple[str, str, str],
        headers: list[tuple[str, str]],
    ) -> None:
        self.sock = sock
        self.reader = reader
        self.stopping = stopping
        self.method, target, self.version = request_line
        self.headers = headers
        self.fields = {name.lower(): value for name, value in headers}
        url = urlsplit(target)
        self.path = unquote(url.path)
        self.query = dict(parse_qsl(url.query))
        asked = self.fields.get("connection", "").lower()
        self._keep = self.version == "HTTP/1.1" and "close" not in asked
        self._chunked = False
        self._waits_for_continue = self.fields.get("expect", "").lower() == "100-continue"
        self.is_begun = False  # something of the answer is on its way
        self.is_endless = False
        self._body = self._pieces()

    @classmethod
    def read(cls, sock: socket.socket, reader: BufferedReader, stopping: threading.Event) -> "Exchange | None":
        """The next request's head; None when the client has closed. Raises BadRequest, OSError."""
        line = reader.readline(MAX_HEAD)
        if not line:
            return None
        parts = line.decode("latin-1").split()
        if len(parts) != 3 or not parts[2].startswith("HTTP/1."):
            raise BadRequest("not an HTTP/1.1 request line")
        headers: list[tuple[str, str]] = []
        size = len(line)
        while line.strip():
            line = reader.readline(MAX_HEAD)
            size += len(line)
            if not line or size > MAX_HEAD:
                raise BadRequest("the head is too large or was cut short")
            name, colon, value = line.decode("latin-1").partition(":")
            if colon:
                headers.append((name, value.strip()))
        return cls(sock, reader, stopping, (parts[0], parts[1], parts[2]), headers)

    def welcome_body(self) -> None:
        """Tell a client that asked first to send its body; to be called before the answer begins."""
        if self._waits_for_continue:
            self._waits_for_continue = False
            self.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")

    def body(self) -> Iterator[bytes]:
        """What is left of the request's body, as it arrives. Raises BadRequest when it is cut short or misframed."""
        return self._body

    def _pieces(self) -> Iterator[bytes]:
        try:
            if self.fields.get("transfer-encoding", "").lower() == "chunked":
                while size := int(self.reader.readline(MAX_HEAD).split(b";")[0], 16):
                    yield from self._exactly(size)
                    self.reader.readline(MAX_HEAD)
                while self.reader.readline(MAX_HEAD).strip():
                    pass
            else:
                yield from self._exactly(int(self.fields.get("content-length", "0")))
        except ValueError as error:
            raise BadRequest("the body's framing is not understood") from error

    def _exactly(self, size: int) -> Iterator[bytes]:
        if size < 0:
            raise ValueError("a length below 0")
        while size:
            piece = self.reader.read1(min(size, PIECE))
            if not piece:
                raise BadRequest("the body was cut short")
            size -= len(piece)
            yield piece

    def reply(self, body: bytes | str, content_type: str = "text/plain; charset=utf-8", status: int = 200) -> None:
        """A whole answer, head and body in one send."""
        data = body.encode() if isinstance(body, str) else body
        self.sock.sendall(self._head(status, content_type, len(data)) + (b"" if self.method == "HEAD" else data))

    def begin(self, content_type: str, length: int | None = None) -> None:
        """The head of an answer whose body comes by `write`; chunked unless the length is given."""
        self._chunked = length is None and self.version == "HTTP/1.1"
        if length is None and not self._chunked:
            self._keep = False  # HTTP/1.0: only the end of the connection can end it
        self.sock.sendall(self._head(200, content_type, length))

    def write(self, data: bytes) -> None:
        """The next piece of the body."""
        if data and self.method != "HEAD":
            self.sock.sendall(b"%x\r\n%s\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        """The body is complete."""
        if self._chunked and self.method != "HEAD":
            self.sock.sendall(b"0\r\n\r\n")

    def finish(self) -> bool:
        """Read what the handler left of the request. True when the connection takes a next one."""
        if not self._keep:
            return False
        for _ in self._body:
            pass
        return True

    def switch(self, *fields: str) -> None:
        """101: from now on the connection belongs to another protocol."""
        self._keep = False
        self.is_begun = True
        self.be_endless()
        self.sock.sendall("\r\n".join(("HTTP/1.1 101 Switching Protocols", *fields, "", "")).encode())

    def be_endless(self) -> None:
        """From here on no answer is owed: a stop ends the wait for the client's bytes."""
        self.is_endless = True  # before the look at `stopping`: one of the two sides notices
        if self.stopping.is_set():
            self.sock.shutdown(socket.SHUT_RD)

    def _head(self, status: int, content_type: str, length: int | None) -> bytes:
        self.is_begun = True
        if self.stopping.is_set() or self._waits_for_continue:
            self._keep = False
        lines = [f"HTTP/1.1 {status} {PHRASES.get(status, 'Status')}", f"Content-Type: {content_type}"]
        if length is not None:
            lines.append(f"Content-Length: {length}")
        elif self._chunked:
            lines.append("Transfer-Encoding: chunked")
        if not self._keep:
            lines.append("Connection: close")
        return "\r\n".join((*lines, "", "")).encode()
