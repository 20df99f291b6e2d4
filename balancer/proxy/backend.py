"""One backend process, as this proxy knows it."""

import socket
from collections import deque
from time import monotonic_ns
from typing import TYPE_CHECKING, Final

import trio

from balancer.pool.habits import Habits
from balancer.pool.latency import Latency
from balancer.pool.snapshot import BackendPicture
from balancer.proxy.blame import Exit
from balancer.proxy.held import Held
from balancer.telemetry.table import IN_FLIGHT, LAST_MOVED, Table

if TYPE_CHECKING:
    from balancer.proxy.pool import Pool
    from balancer.proxy.upstream import Upstream


SMALL_READ: Final = 32 * 1024
LARGE_READ: Final = 128 * 1024
_PARTED: Final = 50  # upgraded connections that it has broken off: the latest, in case this was its end


class Backend:
    """Lives as long as its identity, name and generation: a new weight or a failed probe does not disturb its connections."""

    __slots__ = (
        "_cells",
        "_loads",
        "address",
        "authority",
        "backup",
        "base",
        "drain_until",
        "draining",
        "exit",
        "exited",
        "failures",
        "family",
        "farewells",
        "first_read",
        "generation",
        "given_weight",
        "group",
        "habits",
        "idle",
        "in_flight",
        "is_spawned",
        "latency",
        "name",
        "parted",
        "pool",
        "refusals",
        "row",
        "since",
        "suspect_until",
        "takes_requests",
        "tls",
        "told_drained",
        "weight",
    )

    def __init__(self, picture: BackendPicture, pool: "Pool", table: Table, proxy: int) -> None:
        # process
        self.name = picture.name
        self.group = picture.group
        self.generation = picture.generation
        self.pool = pool
        self.is_spawned = picture.since > 0
        self.since = picture.since
        self.family, self.address = _socket_address(picture.host, picture.port)
        self.authority = (f"[{picture.host}]" if ":" in picture.host else picture.host).encode() + b":%d" % picture.port
        if picture.host.startswith("unix:"):
            self.authority = b"localhost"
        if picture.authority:
            self.authority = picture.authority.encode()
        self.tls = picture.tls
        self.row = picture.row
        self.base = table.backend_base(proxy, picture.row)
        self._cells = table.cells
        self._loads = tuple(table.backend_base(p, picture.row) + IN_FLIGHT for p in range(table.proxies))
        # what the supervisor decides
        self.given_weight = picture.weight
        self.weight = picture.weight  # what policies see: less while it is young, see `Pool`
        self.backup = picture.backup
        self.takes_requests = picture.takes_requests
        self.draining = picture.draining
        self.drain_until = picture.drain_until
        # what this proxy does with it
        self.idle: list[Upstream] = []
        self.habits = Habits()
        self.in_flight = 0
        self.latency = Latency()
        self.failures = 0  # in a row
        self.first_read = SMALL_READ  # bytes asked for when a response is to come
        self.exit: Exit | None = None
        self.exited = trio.Event()
        self.refusals = 0  # connections refused in a row
        self.suspect_until = 0.0
        self.told_drained = False
        self.parted: deque[Held] = deque(maxlen=_PARTED)
        self.farewells = 0.0  # how many streams are due to end, see `farewell`

    @property
    def load(self) -> int:
        """Requests in flight on it, over all proxies."""
        cells = self._cells
        return sum(cells[offset] for offset in self._loads)

    def moved(self) -> None:
        """A byte of a response has come from it: it is alive."""
        self._cells[self.base + LAST_MOVED] = monotonic_ns()

    def update(self, picture: BackendPicture) -> None:
        """Take over what may change while it lives."""
        self.given_weight = picture.weight
        self.backup = picture.backup
        self.takes_requests = picture.takes_requests
        self.draining = picture.draining
        self.drain_until = picture.drain_until
        if not picture.draining:
            self.told_drained = False


def _socket_address(host: str, port: int) -> tuple[socket.AddressFamily, "str | tuple[str, int]"]:
    if host.startswith("unix:"):
        return socket.AF_UNIX, host.removeprefix("unix:")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, port)
