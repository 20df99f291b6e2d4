"""The part of a request body that had not come with its head: pumped to the backend while the response is awaited.

Runs as a task of its own beside the exchange, in the client's nursery, because a backend may answer before the body is through.
"""

from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.chunked import ChunkedReader, FramingError, chunk
from balancer.net.splice import Pipes, Transfer
from balancer.net.wire import Wire
from balancer.proxy.pace import CHUNKS, Pace
from balancer.proxy.upstream import Upstream

SPLICE_FROM: Final = (
    128 * 1024
)  # bytes still to come; for less, the two extra system calls of a pipe cost more than a copy
PIECE: Final = 256 * 1024
CHUNKED_PIECE: Final = 64 * 1024  # what is left for another turn is copied


class Upload:
    """The rest of one request body. `is_done`: all of it has come; then `rest` is what followed it on the client's wire."""

    def __init__(self, client: Wire, nursery: trio.Nursery, pipes: Pipes, pace: Pace, timeout: float) -> None:
        self.is_done = False
        self.has_begun = False
        self.rest = b""
        self.received = 0
        self._client = client
        self._nursery = nursery
        self._pipes = pipes
        self._pace = pace
        self._timeout = timeout
        self._left = 0
        self._limit = -1
        self._reader: ChunkedReader | None = None

    def expect(self, length: int, received: int, reader: ChunkedReader | None, limit: int) -> None:
        """What is missing of a body of so many bytes, of which `received` have come; at most `limit` bytes in all (0: any).

        reader: has begun with a chunked one.
        """
        if reader is None:
            self._left = length - received
        else:
            self._reader = reader
            self._limit = limit - received if limit else -1

    def start(self, upstream: Upstream) -> None:
        """Pump it into this connection from now on."""
        self.has_begun = True
        upstream.wire.read_deadline = float("inf")  # the backend's time to answer begins when it has all of the request
        self._nursery.start_soon(self._run, upstream, name="upload")

    async def _run(self, upstream: Upstream) -> None:
        wire = upstream.wire
        client = self._client
        client.late = Reason.REQUEST_BODY_TIMEOUT
        wire.write_timeout = self._timeout
        try:
            if self._reader is None:
                await self._pump_length(wire)
            else:
                await self._pump_chunks(wire, self._reader)
            self.is_done = True
        except Fault as fault:
            if fault.side is Side.CLIENT:
                fault.moment = Moment.AFTER_SEND
                wire.interrupt(fault)
                return
            # The backend does not take the rest. It may have answered already: the task that reads decides.
        wire.read_deadline = monotonic() + upstream.backend.pool.picture.response_timeout

    async def _pump_length(self, wire: Wire) -> None:
        client = self._client
        can_splice = self._left > SPLICE_FROM and client.is_plain and wire.is_plain
        pipe = self._pipes.take() if can_splice else None
        if pipe is not None:
            transfer = Transfer(client, wire, self._pipes, pipe)
            try:
                is_whole = await transfer.run(self._left, self._timeout)
            finally:
                self.received += transfer.moved
            if not is_whole:
                raise Fault(Side.CLIENT, Reason.CLIENT_GONE, detail="the body ended early")
            return
        while self._left:
            client.read_deadline = monotonic() + self._timeout
            data = await client.receive(min(self._left, PIECE))
            if not data:
                raise Fault(Side.CLIENT, Reason.CLIENT_GONE, detail="the body ended early")
            self._left -= len(data)
            self.received += len(data)
            await wire.send(data)

    async def _pump_chunks(self, wire: Wire, reader: ChunkedReader) -> None:
        client = self._client
        while not reader.done:
            data = reader.rest
            if data:
                await self._pace.turn(CHUNKS)
            else:
                client.read_deadline = monotonic() + self._timeout
                data = await client.receive(CHUNKED_PIECE)
                if not data:
                    raise Fault(Side.CLIENT, Reason.CLIENT_GONE, detail="the body ended early")
            try:
                payload = b"".join(reader.feed(data))
            except FramingError as error:
                raise Fault(Side.CLIENT, Reason.BAD_REQUEST, detail=str(error)) from None
            self.received += len(payload)
            if 0 <= self._limit < self.received:
                raise Fault(Side.CLIENT, Reason.BODY_TOO_LARGE)
            message = chunk(payload)
            if reader.done:
                message += b"0\r\n%s\r\n" % reader.trailers
            if message:
                await wire.send(message)
        self.rest = reader.rest
