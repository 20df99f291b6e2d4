"""After an upgrade: bytes both ways until either side is done. What they mean is not ours to know, but for where frames end."""

from math import inf
from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault, Reason, Side
from balancer.http1.websocket import GOING_AWAY, Frames
from balancer.net.wire import Wire
from balancer.proxy.casualties import held
from balancer.proxy.exchange import Exchange
from balancer.proxy.upstream import Upstream

PIECE: Final = 64 * 1024
IDLE_TIMEOUT: Final = (
    3600.0  # seconds without a byte in either direction; HAProxy's documentation suggests `timeout tunnel 1h`
)
PARTING: Final = 2.0  # seconds for both sides to close after we have said that we go away
LAST_WORDS: Final = 30.0  # the same once one direction has ended: the other may finish what it is saying


class Tunnel:
    """Two directions; either may end before the other (half-close), and both end when one breaks."""

    def __init__(self, x: Exchange, client: Wire, upstream: Upstream, protocol: bytes = b"") -> None:
        """x: where the bytes are counted; protocol: what was upgraded to."""
        self._x = x
        self._frames = Frames() if protocol.lower() == b"websocket" else None  # towards the client
        self._is_sending = False  # towards the client
        self._leaving_by = inf  # when both ends shall have closed
        self._has_said_so = False
        self._ended_by: Side | None = None  # the first to end a direction
        x.endless = self.leave
        self._patience = IDLE_TIMEOUT
        self._client = client
        self._upstream = upstream

    async def run(self, first_from_client: bytes) -> None:
        """Carry bytes until both directions have ended. `first_from_client`: what had been read behind the request head."""
        backend = self._upstream.wire
        first_from_backend, self._upstream.buffer = self._upstream.buffer, b""
        self._client.watcher = None
        self._client.late = backend.late = Reason.CLIENT_GONE
        self._client.write_timeout = backend.write_timeout = IDLE_TIMEOUT
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pump, self._client, backend, first_from_client, name="tunnel upstream")
                nursery.start_soon(self._pump, backend, self._client, first_from_backend, name="tunnel downstream")
        except* Fault as broken:
            # One side broke off: both are closed by their owner.
            self._ended_by = self._ended_by or next((f.side for f in broken.exceptions if isinstance(f, Fault)), None)
        if self._ended_by is Side.BACKEND:
            self._upstream.backend.parted.append(held(self._x, monotonic()))

    def leave(self) -> None:
        """End it: a WebSocket with a close frame, where one may stand, and a moment to answer it; anything else at once."""
        self._leaving_by = monotonic() + (PARTING if self._frames is not None else 0.0)
        for wire in (self._client, self._upstream.wire):
            wire.read_deadline = wire.write_deadline = self._leaving_by
        if self._frames is not None and self._frames.is_between and not self._is_sending:
            self._say_so()

    def _say_so(self) -> None:
        """Between two frames; what the backend sends after it, nobody wants to hear (RFC 6455, section 5.5.1)."""
        if not self._has_said_so:
            self._has_said_so = True
            try:
                self._client.send_now(GOING_AWAY)
            except Fault:
                pass  # it is gone already

    def _framed(self, data: bytes) -> bytes:
        """What of it the client still gets: all, or all up to where we can say that we go away."""
        if self._frames is None:
            return data
        if self._has_said_so:
            return b""
        border = self._frames.feed(data)
        if self._leaving_by == inf or border < 0:
            return data
        self._has_said_so = True
        return data[:border] + GOING_AWAY

    def _extend(self, wire: Wire, seconds: float) -> None:
        wire.read_deadline = min(monotonic() + seconds, self._leaving_by)

    async def _pump(self, source: Wire, target: Wire, data: bytes) -> None:
        is_upstream = source is self._client
        while True:
            if data:
                if is_upstream:
                    self._x.received += len(data)
                    await target.send(data)
                else:
                    self._upstream.backend.moved()
                    await self._send_down(self._framed(data))
                # Either direction shows life for both: a client that only listens is not idle.
                self._extend(target, self._patience)
            self._extend(source, self._patience)
            data = await source.receive(PIECE)
            if not data:
                self._ended_by = self._ended_by or source.side
                target.shutdown_write()
                self._patience = LAST_WORDS
                self._extend(target, LAST_WORDS)
                source.write_timeout = LAST_WORDS
                source.write_deadline = min(source.write_deadline, monotonic() + LAST_WORDS)
                return

    async def _send_down(self, data: bytes) -> None:
        self._x.sent += len(data)
        self._is_sending = True
        await self._client.send(data)
        self._is_sending = False
        if self._leaving_by < inf and self._frames is not None and self._frames.is_between:
            self._say_so()
