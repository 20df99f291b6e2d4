"""One connection of the admin API: requests in, answers out, with a deadline on every wait.

Requests are read with the proxy's own strict reader (`http1`), so there is one notion of a good request in the house.
"""

import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import trio

from balancer.admin.crowd import Crowd
from balancer.admin.guard import Guard
from balancer.admin.operations import Operations
from balancer.admin.routes import Answer, Asked, Stream, answer, error
from balancer.errors import Fault
from balancer.http1.chunked import LAST_CHUNK, ChunkedReader, FramingError, chunk
from balancer.http1.heads import CHUNKED, RequestHead, parse_request
from balancer.http1.replies import CONTINUE, status_of

HEAD_SIZE = 16 * 1024
HEADERS = 64
RECEIVE = 64 * 1024
LINGER = 1.0  # seconds in which a refused client may read why, before what it still sends resets the connection

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take. Durations are seconds, sizes bytes."""

    request_timeout: float = 10.0  # a whole request, head and body, from its first byte
    idle_timeout: float = 60.0  # between two requests of a connection
    write_timeout: float = 30.0  # one piece of an answer, until the kernel has taken it
    heartbeat: float = 10.0  # between two signs of life on a stream
    body_size: int = 64 * 1024
    connections: int = 64  # at once per `serve`


DEFAULT_LIMITS = Limits()


class _Refused(Exception):
    """The request cannot be read; the connection ends with this answer."""

    def __init__(self, status: int, message: str) -> None:
        self.answer = error(status, message)


class Exchange:
    """Answers the requests of connections; what all of them share. guard: None on the control socket."""

    def __init__(
        self, operations: Operations, guard: Guard | None, limits: Limits, on_crash: Callable[[Exception], object]
    ) -> None:
        self._operations = operations
        self._guard = guard
        self._limits = limits
        self._on_crash = on_crash

    async def converse(self, stream: trio.SocketStream, crowd: Crowd) -> None:
        """All requests of one client. Raises nothing but Cancelled."""
        try:
            reader = _Reader(stream, self._limits)
            while await self._one(stream, reader, crowd):
                pass
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # it left
        except Exception as crash:
            self._on_crash(crash)

    async def _one(self, stream: trio.SocketStream, reader: "_Reader", crowd: Crowd) -> bool:
        """One request; whether another may follow."""
        try:
            with crowd.waiting(self._limits.idle_timeout):
                await reader.begin()
            if not reader.has_begun:
                return False
            with crowd.waiting(self._limits.request_timeout) as patience:
                asked, head = await reader.request()
            if patience.cancelled_caught:
                raise _Refused(408, f"the request was not complete within {self._limits.request_timeout:g} s")
        except _Refused as refused:
            await self._send(stream, _complete(refused.answer, keep_alive=False, with_body=True))
            with trio.move_on_after(LINGER):
                await stream.send_eof()
                while await stream.receive_some(RECEIVE):
                    pass
            return False
        said = await self._answer(asked)
        if isinstance(said, Answer):
            piece = _complete(said, keep_alive=head.keep_alive, with_body=asked.method != "HEAD")
            return await self._send(stream, piece) and head.keep_alive
        if asked.method == "HEAD":
            await self._send(stream, _head(200, said.content_type, close=True))
        else:
            await self._stream(stream, said, chunked=head.minor > 0)
        return False

    async def _answer(self, asked: Asked) -> Answer | Stream:
        try:
            refusal = self._guard.check(asked.method, asked.path, asked.headers) if self._guard else None
            if refusal is not None:
                challenge = (("WWW-Authenticate", "Bearer"),) if refusal.status == 401 else ()
                return error(refusal.status, refusal.message, challenge)
            return await answer(self._operations, asked)
        except Exception as crash:
            self._on_crash(crash)
            return error(500, "the balancer made a mistake here; its log says more")

    async def _stream(self, stream: trio.SocketStream, said: Stream, chunked: bool) -> None:
        """Head and pieces, signs of life between them, until the pieces end or the client is gone or too slow."""
        framing = (("Transfer-Encoding", "chunked"),) if chunked else ()
        lock = trio.Lock()

        async def send(piece: bytes, frame: Callable[[bytes], bytes] = chunk if chunked else bytes) -> None:
            async with lock:
                if not await self._send(stream, frame(piece)):
                    nursery.cancel_scope.cancel()

        async def live() -> None:
            while True:
                await trio.sleep(self._limits.heartbeat)
                await send(said.sign_of_life)

        async def watch() -> None:
            try:
                while await stream.receive_some(RECEIVE):
                    pass
            except trio.BrokenResourceError:
                pass
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery, aclosing(said.pieces):  # type: ignore[type-var]  # it is a generator
            if not await self._send(stream, _head(200, said.content_type, *framing, close=True)):
                return
            nursery.start_soon(live, name="admin.heartbeat")
            nursery.start_soon(watch, name="admin.watch")
            try:
                async for piece in said.pieces:
                    await send(piece)
            except Exception as crash:
                # Cut, so that it is not taken for complete.
                self._on_crash(crash)
            else:
                if chunked:
                    await send(LAST_CHUNK, bytes)
            nursery.cancel_scope.cancel()

    async def _send(self, stream: trio.SocketStream, data: bytes) -> bool:
        """False: the client is gone or did not take it in time."""
        with trio.move_on_after(self._limits.write_timeout):
            try:
                await stream.send_all(data)
            except trio.BrokenResourceError:
                return False
            return True
        return False


class _Reader:
    """Requests out of the bytes of one connection."""

    def __init__(self, stream: trio.SocketStream, limits: Limits) -> None:
        self._stream = stream
        self._limits = limits
        self._data = b""

    @property
    def has_begun(self) -> bool:
        return self._data != b""

    async def begin(self) -> None:
        """Until the first bytes of a request are there, or the client has left."""
        if not self._data:
            self._data = await self._stream.receive_some(RECEIVE)

    async def request(self) -> tuple[Asked, RequestHead]:
        """The request that has begun. Raises _Refused, and BrokenResourceError when the client leaves half-way."""
        try:
            while (head := parse_request(self._data, HEAD_SIZE, HEADERS)) is None:
                await self._more()
            self._data = self._data[head.size :]
            body = await self._body(head)
        except Fault as fault:
            raise _Refused(status_of(fault), fault.detail or str(fault)) from None
        except FramingError as wrong:
            raise _Refused(400, str(wrong)) from None
        path, _, query = head.target.decode("ascii", "replace").partition("?")
        fields = (line.partition(b":") for line in head.fields.split(b"\r\n") if line)
        headers = {name.decode("latin-1").lower(): value.strip().decode("latin-1") for name, _, value in fields}
        return Asked(
            head.method.decode(), unquote(path), dict(parse_qsl(query, keep_blank_values=True)), headers, body
        ), head

    async def _body(self, head: RequestHead) -> bytes:
        limit = self._limits.body_size
        if head.length > limit:
            raise _Refused(413, f"a body may have {limit} bytes")
        if head.length == 0:
            return b""
        if head.expects_continue and not self._data:
            await self._stream.send_all(CONTINUE)
        if head.length != CHUNKED:
            while len(self._data) < head.length:
                await self._more()
            body, self._data = self._data[: head.length], self._data[head.length :]
            return body
        reader, body = ChunkedReader(), b""
        while True:
            body += b"".join(reader.feed(self._data))
            if len(body) > limit:
                raise _Refused(413, f"a body may have {limit} bytes")
            self._data = reader.rest
            if reader.done:
                return body
            if not self._data:
                await self._more()

    async def _more(self) -> None:
        piece = await self._stream.receive_some(RECEIVE)
        if not piece:
            raise trio.BrokenResourceError
        self._data += piece


def _complete(said: Answer, keep_alive: bool, with_body: bool) -> bytes:
    length = ("Content-Length", str(len(said.body)))
    head = _head(said.status, said.content_type, length, *said.headers, close=not keep_alive)
    return head + said.body if with_body else head


def _head(status: int, content_type: str, *fields: tuple[str, str], close: bool) -> bytes:
    now = time.gmtime()
    date = time.strftime(f"{_DAYS[now.tm_wday]}, %d {_MONTHS[now.tm_mon - 1]} %Y %H:%M:%S GMT", now)
    lines = (
        ("Date", date),
        ("Content-Type", content_type),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        *fields,
        *((("Connection", "close"),) if close else ()),
    )
    text = "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n{text}\r\n".encode("latin-1")
