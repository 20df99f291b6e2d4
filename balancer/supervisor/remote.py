"""The life of a backend that runs elsewhere: not started, only probed. It starts down, as every backend."""

import trio

from balancer.pool.lifecycle import Health, Intent, Step
from balancer.supervisor.clock import now
from balancer.supervisor.generation import Generation
from balancer.supervisor.probing import watch_health
from balancer.supervisor.slot import Slot
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.surroundings import Surroundings


class RemoteLife(Generation):
    """See `slot.Life` for what its events mean."""

    def __init__(self, slot: Slot, launch: Launch, care: Care, around: Surroundings) -> None:
        super().__init__(slot, launch, care, around)
        self.ready_at = now()
        self.cause = "crash"

    def kill(self) -> None:
        """It is not ours to kill: forget it."""
        self.retire("killed")

    def kill_overgrown(self, why: str) -> None:
        """Nobody here knows how large it is."""

    async def run(self) -> None:
        """Probe it until it is to leave."""
        truth, backend = self.around.truth, self.backend
        backend.step(Step.START)
        truth.add(backend)
        try:
            await self._live()
        finally:
            backend.step(Step.EXIT)
            backend.intent = Intent.DRAIN
            self.settled.set()
            self.over.set()
            self.gone.set()
            truth.remove(backend)
        await self.around.drained(backend.id)
        truth.ledger.close(backend.pool, backend.id.name, backend.row)

    async def _live(self) -> None:
        self.backend.step(Step.READY)
        self.around.truth.touch()
        self.suspected.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_health, self)
            nursery.start_soon(self._settle)
            await self._asked.wait()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(self.care.drain_timeout):
            await self.around.drained(self.backend.id)

    async def _settle(self) -> None:
        with trio.move_on_after(self.care.ready_timeout):
            await self.around.truth.changes.until(lambda: self.backend.health is Health.HEALTHY)
        if self.backend.health is not Health.HEALTHY:
            # Nobody gives it up: it may come back at any time.
            self.failure = f"{self.slot.name} passed no probe in {self.care.ready_timeout:g} s"
        self.settled.set()
