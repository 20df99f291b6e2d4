"""How much the kernel takes for a client beyond what that client's window lets it send.

Left alone it takes megabytes for each, at once, whether it reads or not: some hundred clients that ask for something large and read
nothing of it fill the memory that TCP has on the whole machine, and the loop stands still for a second while that is allocated.
Bounded, what is not read stays where it was made. A client that does read would be woken for too often, so it gets all there is
once it has taken `PROOF` bytes.
"""

import socket
from typing import Final

from balancer.net.wire import Wire

UNSENT: Final = 192 * 1024  # bytes; the largest piece that we read at a time goes in whole, and is not held here
PROOF: Final = 1024 * 1024  # bytes of a body
_UNBOUNDED: Final = 2**31 - 1
_TCP_NOTSENT_LOWAT: Final = getattr(socket, "TCP_NOTSENT_LOWAT", 25)  # Linux's number


def bound_accepted(listener: socket.socket) -> None:
    """Bound every connection that this TCP socket accepts from now on: they inherit it, which costs them no system call."""
    listener.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, UNSENT)


def heed(wire: Wire, taken: int) -> None:
    """A client that has taken so many bytes of a body: let the kernel decide if that proves that it reads."""
    if wire.is_bounded and taken >= PROOF:
        wire.is_bounded = False
        try:
            wire.sock.setsockopt(socket.IPPROTO_TCP, _TCP_NOTSENT_LOWAT, _UNBOUNDED)
        except OSError:
            pass  # it is gone, which writing will tell
