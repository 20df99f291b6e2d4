"""One edge-triggered epoll per process, waited on by one trio task.

trio's own `wait_readable` arms and disarms a descriptor around each wait, an `epoll_ctl` each. Here a socket is registered once
and stays registered; its `Wire` (`net/wire`) keeps what epoll said until somebody asks.
"""

import select
from typing import TYPE_CHECKING, Final

import trio

if TYPE_CHECKING:
    from balancer.net.wire import Wire

_IN: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_IN_OUT: Final = _IN | select.EPOLLOUT
_BATCH: Final = 512  # events per epoll_wait: one pass of the loop serves that many, then trio's own queue gets its turn


class Poller:
    """Owns the epoll descriptor and knows every open wire. `run` must be running for any wait to end."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self.wires: dict[int, Wire] = {}

    async def run(self) -> None:
        """Wake who waits, forever."""
        epoll_fd, poll, wires = self._epoll.fileno(), self._epoll.poll, self.wires
        wait_readable = trio.lowlevel.wait_readable
        while True:
            await wait_readable(epoll_fd)
            for fd, events in poll(0, _BATCH):
                wire = wires.get(fd)
                if wire is not None:  # else closed earlier in this batch
                    wire.on_events(events)

    def add(self, wire: "Wire") -> None:
        """Start watching. Raises OSError when the kernel refuses (out of memory or watches)."""
        self._epoll.register(wire.fd, _IN)
        self.wires[wire.fd] = wire

    def want_writable(self, wire: "Wire") -> None:
        """Watch for room to write too, from now on; reports at once when there is room already."""
        self._epoll.modify(wire.fd, _IN_OUT)

    def remove(self, wire: "Wire") -> None:
        """Stop watching. The caller closes the descriptor, which takes it out of the kernel's set."""
        self.wires.pop(wire.fd, None)

    def close(self) -> None:
        """Give the epoll descriptor back."""
        self._epoll.close()
