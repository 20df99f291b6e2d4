"""The end of a connection whose peer is still sending."""

from time import monotonic
from typing import Final

from balancer.errors import Fault, Reason
from balancer.net.wire import Wire

LINGER: Final = 2.0  # seconds for the peer to read our last words; nginx gives 5
LINGER_BYTES: Final = 4 * 1024 * 1024


async def linger(wire: Wire) -> None:
    """Let a peer that is still sending read what we sent last, for `LINGER` seconds or `LINGER_BYTES` at most.

    A close with unread bytes is a reset, and that may overtake our answer (RFC 9112 9.6). The caller closes.
    """
    wire.watcher = None
    wire.late = wire.late_write = Reason.CLIENT_GONE
    wire.write_timeout = LINGER
    wire.read_deadline = monotonic() + LINGER
    wire.clear_fault()
    left = LINGER_BYTES
    try:
        await wire.hang_up()
        while left > 0:
            data = await wire.receive(65536)
            if not data:
                return
            left -= len(data)
    except Fault:
        pass
