"""The body of a response, from backend to client, as the framing on both sides demands. Never buffered whole.

Each function sends `head` (the response head as the client gets it) together with the first piece, and returns the number of
body bytes passed on. They raise Fault with `Moment.MID_RESPONSE`: what was begun can only be cut.
"""

from time import monotonic
from typing import Final

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.chunked import ChunkedReader, FramingError, chunk
from balancer.net.splice import Pipes, splice
from balancer.net.wire import Wire
from balancer.proxy.upstream import Upstream

SPLICE_FROM: Final = 128 * 1024
PIECE: Final = 128 * 1024


async def relay_length(head: bytes, upstream: Upstream, client: Wire, length: int, pipes: Pipes, timeout: float) -> int:
    """A body of `length` bytes, at least one of which is not in `upstream.buffer` yet."""
    wire = upstream.wire
    wire.late = Reason.RESPONSE_BODY_TIMEOUT
    await client.send(head + upstream.buffer)
    left = length - len(upstream.buffer)
    upstream.buffer = b""
    if left > SPLICE_FROM:
        moved = await splice(wire, client, left, pipes, timeout)
        left -= moved
        if left:
            raise _truncated()
    while left:
        wire.read_deadline = monotonic() + timeout
        data = await wire.receive(min(left, PIECE))
        if not data:
            raise _truncated()
        left -= len(data)
        await client.send(data)
    return length


async def relay_chunks(head: bytes, upstream: Upstream, client: Wire, is_chunked: bool, timeout: float) -> int:
    """A chunked body; `is_chunked`: to the client too, else as plain bytes until the connection closes (HTTP/1.0)."""
    wire = upstream.wire
    wire.late = Reason.RESPONSE_BODY_TIMEOUT
    reader = ChunkedReader()
    data = upstream.buffer
    upstream.buffer = b""
    passed = 0
    out = head
    while True:
        try:
            payload = b"".join(reader.feed(data))
        except FramingError as error:
            if out is head:
                out = b""  # nothing of it has left yet: the client may still get an answer of our own
                raise Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND, str(error)) from None
            raise Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.MID_RESPONSE, str(error)) from None
        passed += len(payload)
        out += chunk(payload) if is_chunked else payload
        if reader.done:
            if is_chunked:
                out += b"0\r\n%s\r\n" % reader.trailers
            await client.send(out)
            upstream.buffer = reader.rest
            return passed
        if out:
            await client.send(out)
        out = b""
        wire.read_deadline = monotonic() + timeout
        data = await wire.receive(PIECE)
        if not data:
            raise _truncated()


async def relay_until_close(head: bytes, upstream: Upstream, client: Wire, is_chunked: bool, timeout: float) -> int:
    """A body that ends when the backend closes; `is_chunked`: given an end of its own towards the client."""
    wire = upstream.wire
    wire.late = Reason.RESPONSE_BODY_TIMEOUT
    data = upstream.buffer
    upstream.buffer = b""
    passed = len(data)
    out = head + (chunk(data) if is_chunked else data)
    while True:
        await client.send(out)
        wire.read_deadline = monotonic() + timeout
        data = await wire.receive(PIECE)
        if not data:
            break
        passed += len(data)
        out = chunk(data) if is_chunked else data
    if is_chunked:
        await client.send(b"0\r\n\r\n")
    return passed


def _truncated() -> Fault:
    return Fault(Side.BACKEND, Reason.TRUNCATED, Moment.MID_RESPONSE)
