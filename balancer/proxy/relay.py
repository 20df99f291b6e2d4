"""The body of a response, from backend to client, as the framing on both sides demands. Never buffered whole.

Each function sends `head` (the response head as the client gets it) together with the first piece, and keeps `x.sent`. They raise
Fault: what was begun can only be cut, but for a bad response that shows before any of it has left (`Moment.AFTER_SEND`).
"""

from time import monotonic
from typing import Final

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.chunked import ChunkedReader, FramingError, chunk
from balancer.net.splice import Pipes, Transfer
from balancer.net.unsent import heed
from balancer.net.wire import Wire
from balancer.proxy.backend import LARGE_READ, SMALL_READ
from balancer.proxy.exchange import Exchange
from balancer.proxy.pace import CHUNKS, Pace
from balancer.proxy.upstream import Upstream

SPLICE_FROM: Final = 128 * 1024
PIECE: Final = 128 * 1024
FIRST_PIECES: Final = 64 * 1024  # for a client that has not shown yet that it reads: what it does not take is held here


async def relay_length(
    x: Exchange, head: bytes, upstream: Upstream, client: Wire, length: int, pipes: Pipes, timeout: float
) -> None:
    """A body of `length` bytes, at least one of which is not in `upstream.buffer` yet."""
    wire, moved = upstream.wire, upstream.backend.moved
    wire.late = Reason.RESPONSE_BODY_TIMEOUT
    if length < LARGE_READ:
        # The next one is likely to be of this size: one read and one write may do for it.
        upstream.backend.first_read = LARGE_READ
    first, at_hand = head + upstream.buffer, len(upstream.buffer)
    upstream.buffer = b""
    sent = client.send_now(first)
    if sent < len(first):
        upstream.backend.first_read = SMALL_READ  # what clients do not take at once is held here
        await client.send_rest(first, sent)
    del first
    x.sent = at_hand
    left = length - at_hand
    can_splice = left > SPLICE_FROM and wire.is_plain and client.is_plain
    pipe = pipes.take() if can_splice else None
    if pipe is not None:
        transfer = Transfer(wire, client, pipes, pipe, moved)
        try:
            if not await transfer.run(left, timeout):
                raise _truncated()
        finally:
            x.sent += transfer.moved
        return
    while left:
        wire.read_deadline = monotonic() + timeout
        data = await wire.receive(min(left, _piece(client)))
        if not data:
            raise _truncated()
        moved()
        left -= len(data)
        await client.send(data)
        x.sent += len(data)
        heed(client, x.sent)


async def relay_chunks(
    x: Exchange, head: bytes, upstream: Upstream, client: Wire, is_chunked: bool, pace: Pace, timeout: float
) -> None:
    """A chunked body; `is_chunked`: to the client too, else as plain bytes until the connection closes (HTTP/1.0)."""
    wire, moved = upstream.wire, upstream.backend.moved
    wire.late = Reason.RESPONSE_BODY_TIMEOUT
    reader = ChunkedReader()
    data = upstream.buffer
    upstream.buffer = b""
    out = head
    while True:
        try:
            payload = b"".join(reader.feed(data))
        except FramingError as error:
            # As long as nothing of it has left, the client may still get an answer of our own.
            moment = Moment.AFTER_SEND if out is head else Moment.MID_RESPONSE
            raise Fault(Side.BACKEND, Reason.BAD_RESPONSE, moment, str(error)) from None
        out += chunk(payload) if is_chunked else payload
        size, data = len(payload), reader.rest
        del payload  # the same bytes once more
        if reader.done:
            if is_chunked:
                out += b"0\r\n%s\r\n" % reader.trailers
            await client.send(out)
            x.sent += size
            upstream.buffer = data
            return
        if out:
            await client.send(out)
            x.sent += size
            heed(client, x.sent)
        out = b""
        if data:
            await pace.turn(CHUNKS)
            continue
        wire.read_deadline = monotonic() + timeout
        data = await wire.receive(_piece(client))
        if not data:
            raise _truncated()
        moved()


async def relay_until_close(
    x: Exchange, head: bytes, upstream: Upstream, client: Wire, is_chunked: bool, timeout: float
) -> None:
    """A body that ends when the backend closes; `is_chunked`: given an end of its own towards the client."""
    wire, moved = upstream.wire, upstream.backend.moved
    wire.late = Reason.RESPONSE_BODY_TIMEOUT
    data = upstream.buffer
    upstream.buffer = b""
    out = head + (chunk(data) if is_chunked else data)
    while True:
        await client.send(out)
        x.sent += len(data)
        heed(client, x.sent)
        wire.read_deadline = monotonic() + timeout
        data = await wire.receive(_piece(client))
        if not data:
            break
        moved()
        out = chunk(data) if is_chunked else data
    if is_chunked:
        await client.send(b"0\r\n\r\n")


def _piece(client: Wire) -> int:
    return FIRST_PIECES if client.is_bounded else PIECE


def _truncated() -> Fault:
    return Fault(Side.BACKEND, Reason.TRUNCATED, Moment.MID_RESPONSE)
