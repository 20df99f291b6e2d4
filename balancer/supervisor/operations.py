"""What can be asked of the running balancer: `admin.operations.Operations` over the truth, the rollout, logs and events."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from balancer.admin.operations import NotFound
from balancer.errors import BalancerError
from balancer.pool.backend import BackendId
from balancer.supervisor.planning import prediction
from balancer.supervisor.readings import take_reading
from balancer.supervisor.resources import Usage
from balancer.supervisor.scrape import Scrapes
from balancer.supervisor.status import build_status

if TYPE_CHECKING:
    from balancer.supervisor.process import Supervisor


class SupervisorOperations:
    """Implements the protocol; holds nothing but what is needed to look things up."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._usage = Usage(self._pid_of)
        self._scrapes = Scrapes(lambda: (supervisor.truth.ledger.tally(), take_reading(supervisor, self._usage)))

    def status(self) -> dict[str, Any]:
        """`GET /api/v1/status`."""
        supervisor = self._supervisor
        fleet = supervisor.fleet
        return build_status(supervisor.truth, supervisor.proxies, self._usage, supervisor.started, fleet.life_of)

    def unready(self) -> list[str]:
        """Why not, a line each; empty: ready."""
        return self._supervisor.unready()

    async def metrics(self, openmetrics: bool) -> tuple[str, bytes]:
        """`/metrics`."""
        return await self._scrapes.text(openmetrics)

    def reload(self) -> AsyncIterator[dict[str, Any]]:
        """Read the file again and replace every backend; yields progress."""
        return self._supervisor.reloads.begin().follow()

    async def plan(self, config: str) -> AsyncIterator[dict[str, Any]]:
        """What a reload of that file would do."""
        truth = self._supervisor.truth
        try:
            new = await self._supervisor.reloads.load(Path(config) if config else truth.settings.path)
        except BalancerError as error:
            yield {"event": "done", "ok": False, "text": str(error)}
        else:
            yield {"event": "done", "ok": True, "text": "", **prediction(truth, new)}

    def restart(self, pool: str, backend: str) -> AsyncIterator[dict[str, Any]]:
        """Rolling restart of a pool, or of one of its backends."""
        return self._supervisor.verbs.restart(pool or self._supervisor.verbs.pool_of(backend), backend).follow()

    def scale(self, pool: str, count: int | str) -> AsyncIterator[dict[str, Any]]:
        """Another number of backends until the next reload."""
        return self._supervisor.verbs.scale(pool, count).follow()

    def drain(self, backend: str) -> AsyncIterator[dict[str, Any]]:
        """Out of rotation."""
        return self._supervisor.verbs.drain(backend).follow()

    def undrain(self, backend: str) -> AsyncIterator[dict[str, Any]]:
        """Back into rotation."""
        return self._supervisor.verbs.undrain(backend).follow()

    def weigh(self, backend: str, weight: int) -> AsyncIterator[dict[str, Any]]:
        """Another weight until the next reload."""
        return self._supervisor.verbs.weigh(backend, weight).follow()

    def send(self, pool: str, backend: str, value: Any) -> int:
        """A message to one backend or all of a pool."""
        return self._supervisor.verbs.send(pool or self._supervisor.verbs.pool_of(backend), backend, value)

    def ask(self, pool: str, backend: str, value: Any, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """A message to one backend or all of a pool, and their replies."""
        verbs = self._supervisor.verbs
        return verbs.ask(pool or verbs.pool_of(backend), backend, value, timeout).ends()

    def logs(self, pool: str, backend: str, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """Lines of backends' output; of one that is gone, too, while some are kept. Raises NotFound at once."""
        logs = self._supervisor.logs
        slots = self._supervisor.truth.all_slots()
        is_known = any(pool in ("", slot.pool) and backend in ("", slot.name) for slot in slots)
        if not is_known and not logs.last(1, pool, backend):
            raise NotFound(f"there is no backend {backend!r}" if backend else f"there is no pool {pool!r}")
        return self._logs(pool, backend, last, follow)

    async def _logs(self, pool: str, backend: str, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        logs = self._supervisor.logs
        if not follow:
            for line in logs.last(last, pool, backend):
                yield line.to_json()
            return
        async for line in logs.follow(last, pool, backend):
            yield line.to_json()

    async def events(self, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """What happened."""
        if not follow:
            for event in self._supervisor.events.last(last):
                yield event.to_json()
            return
        async for event in self._supervisor.events.follow(last):
            yield event.to_json()

    def stop(self) -> None:
        """As SIGTERM."""
        self._supervisor.stop()

    def _pid_of(self, id: BackendId) -> int | None:  # noqa: A002
        return self._supervisor.fleet.pid_of(id)
