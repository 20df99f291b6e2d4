"""After an upgrade: bytes both ways until either side is done. What they mean is not ours to know."""

from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault, Reason
from balancer.net.wire import Wire
from balancer.proxy.exchange import Exchange
from balancer.proxy.upstream import Upstream

PIECE: Final = 64 * 1024
IDLE_TIMEOUT: Final = (
    3600.0  # seconds without a byte in either direction; HAProxy's documentation suggests `timeout tunnel 1h`
)
LAST_WORDS: Final = 30.0  # the same once one direction has ended: the other may finish what it is saying


class Tunnel:
    """Two directions; either may end before the other (half-close), and both end when one breaks."""

    def __init__(self, x: Exchange, client: Wire, upstream: Upstream) -> None:
        """x: where the bytes are counted."""
        self._x = x
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
        except* Fault:
            pass  # one side broke off: both are closed by their owner

    async def _pump(self, source: Wire, target: Wire, data: bytes) -> None:
        is_upstream = source is self._client
        while True:
            if data:
                if is_upstream:
                    self._x.received += len(data)
                else:
                    self._x.sent += len(data)
                await target.send(data)
                # Either direction shows life for both: a client that only listens is not idle.
                target.read_deadline = monotonic() + self._patience
            source.read_deadline = monotonic() + self._patience
            data = await source.receive(PIECE)
            if not data:
                target.shutdown_write()
                self._patience = LAST_WORDS
                target.read_deadline = monotonic() + LAST_WORDS
                source.write_timeout = LAST_WORDS
                source.write_deadline = min(source.write_deadline, monotonic() + LAST_WORDS)
                return
