"""What an operator can do to pools and backends while they serve; it lasts until the next reload.

Each thing gives a `Progress` whose last word says whether it came about. Jobs that change processes take turns with reloads.
"""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import trio

from balancer.admin.operations import BadArguments, NotFound, OperationFailed
from balancer.settings.model_pool import MAX_WEIGHT, Pool
from balancer.supervisor.draining import described, holders, narrated
from balancer.supervisor.progress import Progress
from balancer.supervisor.question import Question
from balancer.supervisor.rollout import Rollout
from balancer.supervisor.scaling import counted, elastic_group, scaled
from balancer.supervisor.slot import Slot, drain_end
from balancer.supervisor.turns import Job
from balancer.supervisor.waiting import first_of
from balancer.supervisor.wanted import WantedSlot, guard_of, wanted_slots

if TYPE_CHECKING:
    from balancer.supervisor.process import Supervisor

SETTLE_TIME: Final = (
    5.0  # seconds for proxies to take a change over, and for a backend that is put back to take requests
)
REASON: Final = "operator"
MAX_PATIENCE: Final = 86400.0  # seconds that somebody may wait for replies


class Scale(Job):
    """A pool gets `count` backends, or `by` more than it has when its turn comes."""

    def __init__(self, verbs: "Verbs", pool: str, count: int | None, by: int = 0) -> None:
        super().__init__("scale", lambda progress: verbs.do_scale(self, progress), pool)
        self.count = count
        self.by = by


class Verbs:
    """Acts on a supervisor's truth, fleet and turns; runs what takes time in the nursery given."""

    def __init__(self, supervisor: "Supervisor", nursery: trio.Nursery) -> None:
        self._supervisor = supervisor
        self._nursery = nursery

    # Jobs.

    def restart(self, pool: str, backend: str = "") -> Progress:
        """Replace the processes of a pool, or of one of its backends, without a lost request. Raises NotFound, BadArguments."""
        self._pool(pool)
        if backend:
            slot = self._slot(backend, pool)
            if slot.launch.address is not None:
                raise BadArguments(f"{backend} runs elsewhere: there is nothing to restart")
        elif all(slot.launch.address is not None for slot in self._supervisor.truth.slots.get(pool, ())):
            raise BadArguments(f"the backends of pool {pool} run elsewhere: there is nothing to restart")
        job = Job("restart", lambda progress: self._restart(pool, backend, progress), pool, backend)
        return self._supervisor.turns.begin(job)

    def scale(self, pool: str, count: int | str) -> Progress:
        """Give a pool so many backends, or one per usable CPU. Raises NotFound, BadArguments."""
        try:
            number = counted(count)
            scaled(self._pool(pool), number)
        except BadArguments as error:
            raise BadArguments(f"pool {pool}: {error}") from None
        return self._supervisor.turns.begin(Scale(self, pool, number))

    def scale_all(self, by: int) -> None:
        """So many more, or fewer, in every spawned pool; no pool goes below what its groups need."""
        turns = self._supervisor.turns
        for name, pool in self._supervisor.truth.settings.pool.items():
            if any(group.is_spawned for group in pool.groups):
                job = Scale(self, name, None, by)
                for waiting in turns.jobs[1:]:
                    # Taken over before its turn came, it would be forgotten.
                    if isinstance(waiting, Scale) and waiting.pool == name:
                        job.count, job.by = waiting.count, job.by + waiting.by
                turns.begin(job)

    async def _restart(self, pool: str, backend: str, progress: Progress) -> str:
        settings = self._pool(pool)
        slots = [self._slot(backend, pool)] if backend else self._supervisor.truth.slots[pool]
        local = [slot for slot in slots if slot.wanted and slot.launch.address is None]
        rollout = Rollout(self._supervisor.fleet, pool, progress.say, REASON, guard_of(settings))
        await rollout.replace(local, settings.rollout.surge.of(len(local)))
        return f"{backend} restarted" if backend else f"pool {pool} restarted: {len(local)} backends replaced"

    async def do_scale(self, job: Scale, progress: Progress) -> str:
        """The work of that job."""
        truth, name = self._supervisor.truth, job.pool
        before = self._pool(name)
        count = (before.backend_count if job.count is None else job.count) + job.by
        wanted = scaled(before, count)
        rollout = Rollout(self._supervisor.fleet, name, progress.say, REASON)
        # From here on, a newer job that takes over goes by this number.
        self._put(name, wanted)
        try:
            slots = [slot for slot in truth.slots.get(name, ()) if slot.wanted and not slot.is_found]
            if count > len(slots):
                await rollout.add(_further(wanted, {slot.index for slot in slots}, count - len(slots)))
            elif count < len(slots):
                group = elastic_group(wanted)
                elastic = [slot for slot in slots if slot.launch.group == group]
                await rollout.remove(elastic[count - len(slots) :])
        except BaseException as error:
            if not isinstance(error, trio.Cancelled):
                self._put(name, before)
            raise
        return f"pool {name} has {count} {'backend' if count == 1 else 'backends'}"

    def _put(self, name: str, pool: Pool) -> None:
        truth = self._supervisor.truth
        truth.settings = truth.settings.model_copy(update={"pool": {**truth.settings.pool, name: pool}})
        truth.touch()

    # Rotation.

    def drain(self, name: str) -> Progress:
        """Take a backend out of rotation; its process keeps running. Done when nothing is on it any more. Raises NotFound, BadArguments."""
        slot = self._slot(name)
        if slot.launch.mode == "shared":
            raise BadArguments(
                f'{name} accepts connections itself (mode = "shared"): it cannot be taken out of rotation'
            )
        slot.is_drained = True
        if slot.current is not None:
            slot.current.backend.drain(drain_end(slot.current.care))
        self._supervisor.events.record("drained by operator", slot.pool, name, slot.generation)
        return self._settling(lambda progress: self._empty(slot, progress))

    def undrain(self, name: str) -> Progress:
        """Put a backend back into rotation. Done when it takes requests. Raises NotFound."""
        slot = self._slot(name)
        slot.is_drained = False
        if slot.current is not None and not slot.current.over.is_set():
            slot.current.backend.serve()
        self._supervisor.events.record("put back by operator", slot.pool, name, slot.generation)
        return self._settling(lambda progress: self._serves(slot, progress))

    def weigh(self, name: str, weight: int) -> Progress:
        """Change the weight of a backend. Raises NotFound, BadArguments."""
        slot = self._slot(name)
        if not 0 <= weight <= MAX_WEIGHT:
            raise BadArguments(f"{weight} is out of range; expected a weight from 0 to {MAX_WEIGHT}")
        slot.care = replace(slot.care, weight=weight)
        if slot.current is not None:
            slot.current.care = replace(slot.current.care, weight=weight)
            slot.current.backend.weight = weight
        self._supervisor.events.record("weighed by operator", slot.pool, name, slot.generation, weight=weight)

        async def said(progress: Progress) -> None:
            progress.finish(True, f"{name} has weight {weight}")

        return self._settling(said)

    def _settling(self, then: Callable[[Progress], Awaitable[None]]) -> Progress:
        """Have the change published; when every proxy goes by it, do `then`."""
        progress = Progress()
        self._supervisor.truth.touch()

        async def settle() -> None:
            try:
                with trio.move_on_after(SETTLE_TIME) as patience:
                    await self._supervisor.proxies.applied()
                if patience.cancelled_caught:
                    progress.finish(False, f"not every proxy has taken it over within {SETTLE_TIME:g} s")
                else:
                    await then(progress)
            finally:
                progress.finish(False, "the balancer stops")

        self._nursery.start_soon(settle)
        return progress

    async def _empty(self, slot: Slot, progress: Progress) -> None:
        life = slot.current
        if life is None:
            progress.finish(True, f"{slot.name} does not run, and will get no requests when it does")
            return
        backend, around = life.backend, self._supervisor.fleet.around
        progress.say("out of rotation", f"{slot.name} gets no new requests")

        async def end() -> None:
            await first_of(
                lambda: around.drained(backend.id),
                life.over.wait,
                lambda: around.truth.changes.until(lambda: not slot.is_drained),
            )

        with trio.move_on_after(life.care.drain_timeout) as patience:
            await narrated(around, backend, end, progress.say)
        if not slot.is_drained:
            progress.finish(False, f"{slot.name} was put back into rotation before it was drained")
        elif patience.cancelled_caught:
            left = described(await holders(around, backend), around.truth.ledger.table.in_flight(backend.row))
            text = f"{slot.name} gets no new requests, but after {life.care.drain_timeout:g} s it still has {left}"
            progress.finish(False, text)
        else:
            progress.finish(True, f"{slot.name} is drained: nothing is on it any more")

    async def _serves(self, slot: Slot, progress: Progress) -> None:
        with trio.move_on_after(SETTLE_TIME):
            await self._supervisor.truth.changes.until(
                lambda: slot.current is not None and slot.current.backend.takes_requests
            )
            await self._supervisor.proxies.applied()
            progress.finish(True, f"{slot.name} takes requests")
        state = f"{slot.current.backend.health} and {slot.phase}" if slot.current is not None else slot.phase
        progress.finish(False, f"{slot.name} is back in rotation, but takes no requests: it is {state}")

    # The channel.

    def send(self, pool: str, backend: str, value: Any) -> int:
        """Send a JSON value to a backend, or to all of a pool; how many took it. Raises NotFound, OperationFailed when none did."""
        self._addressed(pool, backend)
        taken = self._supervisor.post.send(pool, backend, value)
        if not taken:
            raise OperationFailed(_nobody(pool, backend))
        return taken

    def ask(self, pool: str, backend: str, value: Any, timeout: float) -> Question:
        """As `send`, and a reply of each within so many seconds. Raises NotFound, BadArguments, OperationFailed."""
        self._addressed(pool, backend)
        if not 0 < timeout <= MAX_PATIENCE:
            raise BadArguments(
                f"timeout {timeout:g} is out of range; expected more than 0, to {MAX_PATIENCE:g} seconds"
            )
        question = self._supervisor.post.ask(pool, backend, value, timeout)
        if question is None:
            raise OperationFailed(_nobody(pool, backend))
        return question

    def _addressed(self, pool: str, backend: str) -> None:
        self._pool(pool)
        if backend:
            self._slot(backend, pool)

    def pool_of(self, name: str) -> str:
        """The pool of a backend. Raises NotFound."""
        return self._slot(name).pool

    def _pool(self, name: str) -> Pool:
        found = self._supervisor.truth.settings.pool.get(name)
        if found is None:
            raise NotFound(f"there is no pool {name!r}")
        return found

    def _slot(self, name: str, pool: str = "") -> Slot:
        for slot in self._supervisor.truth.all_slots():
            if slot.name == name and slot.wanted and pool in ("", slot.pool):
                return slot
        raise NotFound(f"there is no backend {name!r}" + (f" in pool {pool}" if pool else ""))


def _nobody(pool: str, backend: str) -> str:
    return f"{backend} takes no messages" if backend else f"no backend of pool {pool} takes messages"


def _further(pool: Pool, present: set[int], count: int) -> list[WantedSlot]:
    """So many more slots of the elastic group, under the lowest numbers that are free."""
    group = elastic_group(pool)
    pattern = next(one for one in wanted_slots(pool) if one.launch.group == group)
    free = [index for index in range(len(present) + count) if index not in present]
    return [pattern._replace(number=index) for index in free[:count]]
