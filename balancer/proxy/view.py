"""This proxy's picture of the pools: what a snapshot says, turned into objects that the hot path can use as they are.

A `Backend` lives as long as its identity (name and generation); a weight that changes or a probe that fails does not
disturb its connections. State here changes only in plain functions; they return what is to be closed or told.
"""

import socket
from collections.abc import Callable, Collection
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from balancer.errors import Fault, Reason, Side
from balancer.pool.latency import Latency
from balancer.pool.selection import POLICIES, Policy
from balancer.pool.snapshot import BackendPicture, ListenerPicture, PoolPicture, ProxyPicture, Snapshot
from balancer.proxy.queue import Queue
from balancer.proxy.routing import Route, find
from balancer.telemetry.table import IN_FLIGHT, Table

if TYPE_CHECKING:
    from balancer.proxy.upstream import Upstream

Told = Callable[[dict[str, Any]], object]

SUSPECT_FOR: Final = 1.0  # seconds without requests after a refused connection, unless the supervisor says more before


class Backend:
    """One backend process, as this proxy knows it."""

    __slots__ = (
        "_cells",
        "_loads",
        "address",
        "authority",
        "backup",
        "base",
        "draining",
        "family",
        "generation",
        "idle",
        "in_flight",
        "is_spawned",
        "latency",
        "name",
        "pool",
        "suspect_until",
        "takes_requests",
        "told_drained",
        "weight",
    )

    def __init__(self, picture: BackendPicture, pool: "Pool", table: Table, proxy: int) -> None:
        # process
        self.name = picture.name
        self.generation = picture.generation
        self.pool = pool
        self.is_spawned = picture.since > 0
        self.family, self.address = _socket_address(picture.host, picture.port)
        self.authority = (f"[{picture.host}]" if ":" in picture.host else picture.host).encode() + b":%d" % picture.port
        if picture.host.startswith("unix:"):
            self.authority = b"localhost"
        self.base = table.backend_base(proxy, picture.row)
        self._cells = table.cells
        self._loads = tuple(table.backend_base(p, picture.row) + IN_FLIGHT for p in range(table.proxies))
        # what the supervisor decides
        self.weight = picture.weight
        self.backup = picture.backup
        self.takes_requests = picture.takes_requests
        self.draining = picture.draining
        # what this proxy does with it
        self.idle: list[Upstream] = []
        self.in_flight = 0
        self.latency = Latency()
        self.suspect_until = 0.0
        self.told_drained = False

    @property
    def load(self) -> int:
        """Requests in flight on it, over all proxies."""
        cells = self._cells
        return sum(cells[offset] for offset in self._loads)

    def update(self, picture: BackendPicture) -> None:
        """Take over what may change while it lives."""
        self.weight = picture.weight
        self.backup = picture.backup
        self.takes_requests = picture.takes_requests
        self.draining = picture.draining
        if not picture.draining:
            self.told_drained = False


class Pool:
    """One pool, as this proxy knows it: its settings (`picture`), its backends, whose turn it is, who waits."""

    __slots__ = (
        "_backends",
        "_cells",
        "_policy",
        "_policy_name",
        "base",
        "candidates",
        "name",
        "picture",
        "queue",
    )

    def __init__(self, picture: PoolPicture, table: Table, proxy: int) -> None:
        self.name = picture.name
        self.picture = picture
        self.base = table.pool_base(proxy, picture.row)
        self.queue = Queue()
        self.candidates: tuple[Backend, ...] = ()
        self._cells = table.cells
        self._backends: list[Backend] = []
        self._policy_name = ""
        self._policy: Policy[Backend]
        self._set_policy(picture.policy)

    @property
    def backends(self) -> list[Backend]:
        """In slot order."""
        return self._backends

    def update(self, picture: PoolPicture, backends: list[Backend]) -> None:
        """Take over a newer picture. Wakes who waits, if somebody takes requests again or nobody is expected to."""
        self.picture = picture
        self._backends = backends
        for backend in backends:
            if not backend.takes_requests:
                backend.suspect_until = 0.0  # confirmed: from here on the supervisor's word is enough
        self._set_policy(picture.policy)
        self.offer()
        if not self.candidates and not self.may_wait():
            self.queue.interrupt(Fault(Side.BALANCER, Reason.NO_BACKEND))

    def offer(self) -> None:
        """Work out who may be chosen, and let who waits try again if there is anybody."""
        now = monotonic()
        able = [
            b for b in self._backends if b.takes_requests and not b.draining and b.weight and b.suspect_until <= now
        ]
        candidates = tuple([b for b in able if not b.backup] or able)
        self.candidates = candidates
        self._policy.offer(candidates)
        if candidates and len(self.queue):
            self.queue.call_all()

    def claim(self, tried: Collection[Backend]) -> Backend | None:
        """Choose a backend and count the request on it; None when there is nobody (else) to choose."""
        backend = self._policy.choose(tried)
        if backend is not None:
            backend.in_flight += 1
            self._cells[backend.base + IN_FLIGHT] = backend.in_flight
        return backend

    def may_wait(self) -> bool:
        """Whether a backend is expected to take requests before long."""
        return self.picture.expects or any(b.suspect_until for b in self._backends if b.takes_requests)

    def suspect(self, backend: Backend) -> None:
        """A connection was refused: the process is probably gone, which the supervisor is about to learn or to deny."""
        if backend.is_spawned and backend.takes_requests:
            backend.suspect_until = monotonic() + SUSPECT_FOR
            self.offer()

    def trust_again(self, now: float) -> None:
        """End suspicions that nobody confirmed."""
        ended = [b for b in self._backends if 0 < b.suspect_until <= now]
        for backend in ended:
            backend.suspect_until = 0.0
        if ended:
            self.offer()

    def _set_policy(self, name: str) -> None:
        if name != self._policy_name:
            self._policy_name = name
            self._policy = POLICIES[name]()  # type: ignore[assignment]  # one policy per pool, used with its Backends only
            self._policy.offer(self.candidates)


class View:
    """Everything this proxy knows; `apply` takes a snapshot over as a whole."""

    def __init__(self, table: Table, proxy: int, tell: Told) -> None:
        self.table = table
        self.proxy = proxy
        self.number = 0
        self.picture: ProxyPicture
        self.listeners: dict[str, ListenerPicture] = {}
        self.routes: tuple[Route, ...] = ()
        self.pools: dict[str, Pool] = {}
        self.stopping = False
        self._tell = tell
        self._backends: dict[tuple[str, str, int], Backend] = {}
        self._leaving: dict[tuple[str, str, int], Backend] = {}

    def apply(self, snapshot: Snapshot) -> "list[Upstream]":
        """Take over a snapshot, unless a newer one is there already. Returns idle connections that are to be closed."""
        if snapshot.number <= self.number:
            return []
        self.number = snapshot.number
        self.picture = snapshot.proxy
        self.listeners = {listener.name: listener for listener in snapshot.listeners}
        self.routes = tuple(Route(route) for route in snapshot.routes)
        before, self._backends = self._backends, {}
        pools = {}
        for picture in snapshot.pools:
            pool = self.pools.get(picture.name) or Pool(picture, self.table, self.proxy)
            backends = []
            for backend_picture in picture.backends:
                key = (picture.name, backend_picture.name, backend_picture.generation)
                backend = before.pop(key, None) or self._leaving.pop(key, None)
                if backend is None:
                    backend = Backend(backend_picture, pool, self.table, self.proxy)
                else:
                    backend.update(backend_picture)
                self._backends[key] = backend
                backends.append(backend)
            pool.update(picture, backends)
            pools[picture.name] = pool
        for name, pool in self.pools.items():
            if name not in pools:
                pool.queue.interrupt(Fault(Side.BALANCER, Reason.NO_BACKEND))
        self.pools = pools
        for key, backend in before.items():
            backend.takes_requests = False
            backend.draining = True
            self._leaving[key] = backend
        closing: list[Upstream] = []
        for backend in [*self._leaving.values(), *self._backends.values()]:
            if backend.draining:
                closing += backend.idle
                backend.idle = []
                self._tell_if_drained(backend)
        return closing

    def route(self, listener: str, host: bytes, target: bytes) -> tuple[Pool, bytes]:
        """The pool for a request on that listener, and the target that its backend gets. Raises Fault: no route."""
        if self.routes:
            route = find(self.routes, host, target)
            if route is not None:
                return self.pools[route.pool], route.stripped(target) if route.strip_prefix else target
        picture = self.listeners.get(listener)
        pool = self.pools.get(picture.pool) if picture is not None else None
        if pool is None:
            raise Fault(Side.CLIENT, Reason.NO_ROUTE)
        return pool, target

    def release(self, backend: Backend) -> None:
        """End a claim."""
        backend.in_flight -= 1
        self.table.cells[backend.base + IN_FLIGHT] = backend.in_flight
        if backend.draining:
            self._tell_if_drained(backend)

    def observe(self, backend: Backend, fault: Fault) -> None:
        """Tell the supervisor what a request ran into on a backend, and stop choosing one that refuses connections."""
        if fault.reason is Reason.CONNECT_REFUSED:
            backend.pool.suspect(backend)
        if not backend.draining:
            self._tell(
                {"type": "observed", "pool": backend.pool.name, "backend": backend.name}
                | {"generation": backend.generation, "outcome": fault.reason.value}
            )

    def _tell_if_drained(self, backend: Backend) -> None:
        if not backend.in_flight and not backend.told_drained:
            backend.told_drained = True
            self._leaving.pop((backend.pool.name, backend.name, backend.generation), None)
            self._tell(
                {
                    "type": "drained",
                    "pool": backend.pool.name,
                    "backend": backend.name,
                    "generation": backend.generation,
                }
            )


def _socket_address(host: str, port: int) -> tuple[socket.AddressFamily, "str | tuple[str, int]"]:
    if host.startswith("unix:"):
        return socket.AF_UNIX, host.removeprefix("unix:")
    return (socket.AF_INET6 if ":" in host else socket.AF_INET), (host, port)
