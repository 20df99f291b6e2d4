"""The two ends of a conversation through a proxy, byte for byte: raw clients and a scripted backend.

They share no code with the balancer: what they make of the bytes is a second opinion.
"""

import errno
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import trio

PATIENCE = 5.0  # seconds for anything that should happen now
AT_ONCE = 1.0  # seconds: sooner than by any time-out of the harness, and enough for a busy machine


class Torn(Exception):
    """The other end broke off before the end of a message."""


@dataclass
class Message:
    """One HTTP message as it came. `start`: its first line; `closed`: its end was the connection's end."""

    start: str
    fields: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)
    closed: bool = False

    def all(self, name: str) -> list[str]:
        """The values of every field of that name, in order."""
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def one(self, name: str) -> str:
        """The value of a field that stands there exactly once."""
        (value,) = self.all(name)
        return value

    def has(self, name: str) -> bool:
        """Whether it has such a field."""
        return bool(self.all(name))

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.start.split(" ", 2)[1])

    @property
    def method(self) -> str:
        """Of a request."""
        return self.start.split(" ")[0]

    @property
    def target(self) -> str:
        """Of a request."""
        return self.start.split(" ")[1]


class End:
    """One end of a TCP connection."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.buffer = b""

    @property
    def sock(self) -> "trio.socket.SocketType":
        """The socket."""
        return self.stream.socket

    async def send(self, data: bytes) -> None:
        """Write all of it."""
        with trio.fail_after(PATIENCE):
            await self.stream.send_all(data)

    async def more(self) -> bytes:
        """The next bytes, added to the buffer; b"" at the end. Raises Torn on a reset."""
        try:
            data = bytes(await self.stream.receive_some(65536))
        except trio.BrokenResourceError:
            raise Torn("reset") from None
        self.buffer += data
        return data

    async def take_until(self, mark: bytes) -> bytes:
        """All up to and including `mark`."""
        with trio.fail_after(PATIENCE):
            while mark not in self.buffer:
                if not await self.more():
                    raise Torn(f"ended before {mark!r}")
        data, _, self.buffer = self.buffer.partition(mark)
        return data + mark

    async def take(self, count: int) -> bytes:
        """So many bytes."""
        pieces, left = [], count
        while left:
            if not self.buffer:
                with trio.fail_after(PATIENCE):
                    if not await self.more():
                        raise Torn("ended inside a body")
            piece, self.buffer = self.buffer[:left], self.buffer[left:]
            pieces.append(piece)
            left -= len(piece)
        return b"".join(pieces)

    async def head(self) -> Message:
        """The head of the next message."""
        start, *lines = (await self.take_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
        return Message(start, [_field(line) for line in lines])

    async def request(self) -> Message:
        """The next request, with its body."""
        message = await self.head()
        if message.has("transfer-encoding"):
            await self._chunks(message)
        elif message.has("content-length"):
            message.body = await self.take(int(message.one("content-length")))
        return message

    async def response(self, method: str = "GET") -> Message:
        """The next response that is not 1xx (but 101), with its body. Raises Torn when it is not whole."""
        while True:
            message = await self.head()
            if message.status >= 200 or message.status == 101:
                break
        if method == "HEAD" or message.status in (101, 204, 304):
            return message
        if message.has("transfer-encoding"):
            assert message.one("transfer-encoding") == "chunked"
            assert not message.has("content-length")
            await self._chunks(message)
        elif message.has("content-length"):
            message.body = await self.take(int(message.one("content-length")))
        else:
            message.closed = True
            message.body = await self.rest()
        return message

    async def rest(self) -> bytes:
        """Everything until the other end closes. Raises Torn on a reset."""
        with trio.fail_after(PATIENCE):
            while await self.more():
                pass
        data, self.buffer = self.buffer, b""
        return data

    async def closed(self, seconds: float = PATIENCE) -> bool:
        """Wait for the other end to close or reset, with nothing before it; False for a reset."""
        with trio.fail_after(seconds):
            try:
                data = await self.more()
            except Torn:
                return False
        assert data == b"", data
        return True

    async def close(self) -> None:
        """Close it."""
        await self.stream.aclose()

    def reset(self) -> None:
        """Close it with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        trio.lowlevel.notify_closing(self.sock)
        self.sock.close()

    async def _chunks(self, message: Message) -> None:
        pieces = []
        while size := int((await self.take_until(b"\r\n")).strip(), 16):
            pieces.append(await self.take(size))
            assert await self.take(2) == b"\r\n"
        message.body = b"".join(pieces)
        while (line := (await self.take_until(b"\r\n")).decode("latin-1").strip()) != "":
            message.trailers.append(_field(line))


def _field(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name, value.strip()


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

Script = Callable[["Origin", End], Awaitable[None]]


class Origin:
    """A backend on 127.0.0.1 that follows a script for each connection.

    requests: all that came, over all connections, in order of their ends; opened, open: connections ever and now.
    """

    def __init__(self, script: Script | None = None, answer: bytes = OK) -> None:
        self.script = script or answers
        self.answer = answer
        self.requests: list[Message] = []
        self.opened = 0
        self.open = 0
        self.port = 0
        self.is_listening = True
        self._changed = trio.Event()
        self._listener: trio.SocketListener | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Serve until cancelled."""
        (self._listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1", backlog=512)
        self.port = self._listener.socket.getsockname()[1]
        async with trio.open_nursery() as nursery:
            task_status.started()
            while True:
                try:
                    stream = await self._listener.accept()
                except trio.ClosedResourceError:
                    await trio.sleep_forever()
                nursery.start_soon(self._converse, stream)

    async def refuse(self) -> None:
        """Refuse every connection from now on."""
        assert self._listener is not None
        await self._listener.aclose()

    async def _converse(self, stream: trio.SocketStream) -> None:
        self.opened += 1
        self.open += 1
        self._tell()
        try:
            async with stream:
                await self.script(self, End(stream))
        except (Torn, trio.BrokenResourceError, trio.ClosedResourceError):
            pass
        finally:
            self.open -= 1
            self._tell()

    def got(self, message: Message) -> None:
        """Remember a request."""
        self.requests.append(message)
        self._tell()

    async def until(self, holds: Callable[["Origin"], bool], seconds: float = PATIENCE) -> None:
        """Wait until something is true of it."""
        with trio.fail_after(seconds):
            while not holds(self):
                await self._changed.wait()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


async def requests(origin: Origin, end: End) -> AsyncIterator[Message]:
    """The requests of one connection until it ends; each is remembered."""
    while end.buffer or await end.more():
        message = await end.request()
        origin.got(message)
        yield message


async def answers(origin: Origin, end: End) -> None:
    """The usual script: every request gets `origin.answer`; a HEAD only its head."""
    async for message in requests(origin, end):
        answer = origin.answer
        if message.method == "HEAD":
            answer = answer[: answer.index(b"\r\n\r\n") + 4]
        await end.stream.send_all(answer)


def raw(*pieces: bytes, close: bool = False) -> Script:
    """A script: these bytes for each request, and then an end of the connection if `close`."""

    async def script(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            for piece in pieces:
                await end.stream.send_all(piece)
            if close:
                return

    return script


class Liar(Origin):
    """Says these bytes to the first request, closes or not, and what is right from then on."""

    def __init__(self, raw: bytes, closes: bool) -> None:
        super().__init__(self._lie)
        self._raw = raw
        self._closes = closes

    async def _lie(self, _: Origin, end: End) -> None:
        async for _request in requests(self, end):
            if len(self.requests) > 1:
                await end.send(OK)
                continue
            await end.send(self._raw)
            if self._closes:
                return


class Full:
    """A listening socket whose queue is full: connections to it neither succeed nor fail."""

    def __init__(self) -> None:
        self._sock = socket.create_server(("127.0.0.1", 0), backlog=0)
        self.port: int = self._sock.getsockname()[1]
        self._fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            assert filler.connect_ex(("127.0.0.1", self.port)) in (0, errno.EINPROGRESS)
            self._fillers.append(filler)

    def __enter__(self) -> "Full":
        return self

    def __exit__(self, *_: object) -> None:
        for sock in (self._sock, *self._fillers):
            sock.close()
