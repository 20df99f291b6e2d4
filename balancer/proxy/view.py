"""This proxy's picture of everything: what a snapshot says, turned into objects that the hot path can use as they are.

State here changes only in plain functions; they return what is to be closed.
"""

from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from balancer.errors import Fault, Reason, Side
from balancer.pool.snapshot import ListenerPicture, ProxyPicture, Snapshot
from balancer.proxy.backend import Backend
from balancer.proxy.blame import Exit
from balancer.proxy.limits import Limits, renewed
from balancer.proxy.pool import Pool
from balancer.proxy.queue import Grants
from balancer.proxy.routing import Route, find
from balancer.telemetry.table import Table

if TYPE_CHECKING:
    from balancer.proxy.upstream import Upstream

Told = Callable[[dict[str, Any]], object]

FAILING: Final = frozenset(
    (502, 503, 504)
)  # statuses that say the backend itself is in trouble; 500 is an application's word
NO_POOL_ROW: Final = 0  # the pool row of requests that reached no pool
SLOWEST: Final = 1.0  # seconds that a failure counts as, at least, for policies that go by latency


class View:
    """Everything this proxy knows; `apply` takes a snapshot over as a whole."""

    def __init__(self, table: Table, proxy: int, tell: Told, grants: Grants) -> None:
        self.table = table
        self.proxy = proxy
        self.number = 0
        self.picture: ProxyPicture
        self.listeners: dict[str, ListenerPicture] = {}
        self.limits: dict[str, Limits] = {}  # of listeners that have some
        self.redirects: dict[str, int] = {}  # listeners that send everybody to https: the port there
        self.ready_paths: dict[str, bytes] = {}  # of listeners that say whether they are ready
        self.routes: tuple[Route, ...] = ()
        self.pools: dict[str, Pool] = {}
        self.stopping = False
        self.ending = False  # at once, the backends too
        self._tell = tell
        self._grants = grants
        self._backends: dict[tuple[str, str, int], Backend] = {}
        self._leaving: dict[tuple[str, str, int], Backend] = {}

    def apply(self, snapshot: Snapshot) -> "list[Upstream]":
        """Take over a snapshot, unless a newer one is there already. Returns idle connections that are to be closed."""
        if snapshot.number <= self.number:
            return []
        self.number = snapshot.number
        self.picture = snapshot.proxy
        self.listeners = {listener.name: listener for listener in snapshot.listeners}
        self.limits = renewed(self.limits, snapshot.listeners)
        self.redirects = {listener.name: listener.redirect_port for listener in snapshot.listeners if listener.redirect}
        self.ready_paths = {
            listener.name: listener.ready_path.encode() for listener in snapshot.listeners if listener.ready_path
        }
        self.routes = tuple(Route(route) for route in snapshot.routes)
        before, self._backends = self._backends, {}
        pools = {}
        for picture in snapshot.pools:
            pool = self.pools.get(picture.name) or Pool(picture, self.table, self.proxy, self._grants)
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
            if not backend.told_drained or backend.in_flight:
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

    def unready(self, listener: str) -> list[str]:
        """Why requests on that listener should go elsewhere, a line each; empty: they are welcome."""
        if self.picture.leaving or self.stopping:
            return ["the balancer stops"]
        picture = self.listeners.get(listener)
        names = dict.fromkeys([picture.pool if picture else "", *(route.pool for route in self.routes)])
        pools = [self.pools[name] for name in names if name in self.pools]
        lacking = [pool.name for pool in pools if not any(backend.takes_requests for backend in pool.backends)]
        return [f"pool {name}: no backend takes requests" for name in lacking]

    def row_of(self, pool: Pool | None) -> int:
        """Where this proxy counts what no backend has answered; None: what reached no pool."""
        return pool.base if pool is not None else self.table.pool_base(self.proxy, NO_POOL_ROW)

    def release(self, backend: Backend) -> None:
        """End a claim."""
        backend.pool.release(backend)
        if backend.draining:
            self._tell_if_drained(backend)

    def judge(self, backend: Backend, status: int) -> None:
        """A backend answered with this status. What fails again and again is told to the supervisor."""
        if status not in FAILING:
            backend.failures = 0
        else:
            self._count_failure(backend, "failing")

    def in_the_end(self, fault: Fault) -> Fault:
        """The fault as it is said and counted: once backends are killed for a stop at once, what comes of that is the stop's doing."""
        return (
            Fault(Side.BALANCER, Reason.STOPPING, fault.moment)
            if self.ending and fault.side is not Side.CLIENT
            else fault
        )

    def observe(self, backend: Backend, fault: Fault) -> None:
        """A request ran into this on a backend. One that refuses connections is not chosen for a while."""
        if fault.reason is Reason.CONNECT_REFUSED:
            backend.pool.suspect(backend)
        if not backend.draining:
            self._say(backend, fault.reason.value)
        self._count_failure(backend, "failing")

    def find(self, name: str, generation: int) -> Backend | None:
        """The backend with this identity, one that is on its way out too."""
        for backends in (self._backends, self._leaving):
            for backend in backends.values():
                if backend.name == name and backend.generation == generation:
                    return backend
        return None

    def exited(
        self, backend: Backend, at: float, is_own_doing: bool, sent: list[tuple[bytes, float]], in_flight: int
    ) -> None:
        """The supervisor saw its process end.

        sent: fingerprint and time of the requests that this proxy had sent to it; in_flight: how many all proxies had.
        """
        delays = backend.pool.blame.crash(sent, at, in_flight) if is_own_doing else {}
        backend.exit = Exit(at, is_own_doing, max(len(sent), in_flight), delays)
        backend.exited.set()
        # The snapshot without it is still to come: whoever has just learned of its end must not take it for the last one that there is.
        backend.pool.suspect(backend)

    def acquit(self, pool: Pool, fingerprint: bytes) -> None:
        """A request of this kind was answered: if it had been in flight at crashes, it did not cause them."""
        crashes = pool.blame.acquit(fingerprint)
        if crashes:
            said = {"type": "acquitted", "pool": pool.name, "fingerprint": fingerprint.decode("latin-1")}
            self._tell(said | {"crashes": crashes})

    def _count_failure(self, backend: Backend, outcome: str) -> None:
        pool = backend.pool
        backend.failures += 1
        limit = pool.picture.eject_failures
        if limit and backend.failures % limit == 0 and not backend.draining:
            self._say(backend, outcome)
        if pool.wants_latency:
            now = monotonic()
            slowest = max(b.latency.estimate(now, 0.0) for b in pool.backends)
            backend.latency.penalise(max(SLOWEST, slowest), now)

    def _say(self, backend: Backend, outcome: str) -> None:
        self._tell(
            {"type": "observed", "pool": backend.pool.name, "backend": backend.name}
            | {"generation": backend.generation, "outcome": outcome}
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
