"""Rolling replacement of a pool: new up, ready and healthy, swap, then the old ones drain; a few at a time.

With `rollout.observe` the first new one serves beside all old ones for a while and is compared with them before anything is swapped.

Whatever goes wrong before a swap stops the *new* ones and ends the rollout; everything old is still serving. What had been
swapped by then is swapped back.
"""

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

from balancer.errors import BalancerError
from balancer.pool.lifecycle import Health, Phase
from balancer.supervisor.draining import Say, narrated
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.observe import UNGUARDED, Guard, Observation, Worse
from balancer.supervisor.slot import Life, Slot
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.wanted import WantedSlot
from balancer.telemetry.ledger import LedgerFull
from balancer.telemetry.readings import RESTART_REASONS


class RolloutFailed(BalancerError):
    """It ended early; the text says why, and that the old ones serve."""


class Replacement(NamedTuple):
    """What a slot is to be filled with."""

    slot: Slot
    launch: Launch
    care: Care


class PoolPlan(NamedTuple):
    """What a rollout does to a pool, by slot numbers: start, then replace in these steps, then remove."""

    added: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    removed: tuple[int, ...]


def plan(present: Collection[int], wanted: int, surge: int, first: int | None = None) -> PoolPlan:
    """From the slots `present` to those below `wanted`, `surge` (at least 1) replaced at a time. Pure.

    first: the one of them that is replaced before all others, alone. A reload that another one took over from may have left gaps
    among those present.
    """
    kept = sorted(index for index in present if index < wanted and index != first)
    steps = [tuple(kept[start : start + surge]) for start in range(0, len(kept), surge)]
    return PoolPlan(
        added=tuple(index for index in range(wanted) if index not in present),
        steps=tuple(steps if first is None else [(first,), *steps]),
        removed=tuple(sorted(index for index in present if index >= wanted)),
    )


class Rollout:
    """Changes one pool. reason: "reload", or why it is done, for the events and, where it is one of them, the metric's label."""

    def __init__(self, fleet: Fleet, pool: str, say: Say, reason: str = "reload", guard: Guard = UNGUARDED) -> None:
        self.fleet = fleet
        self.pool = pool
        self.say = say
        self.reason = reason
        # A swap back is counted as what it ends: the metric has a closed list of reasons, and all of it is one rollout's doing.
        self._counted_as = reason if reason in RESTART_REASONS else "operator"
        self._guard = guard
        self._watch: Observation | None = None
        self._swapped: list[Replacement] = []  # with what was there before
        self._added: list[Slot] = []
        self._undrained: set[Slot] = set()

    async def run(self, wanted: Sequence[WantedSlot], surge: int) -> None:
        """Bring the pool to `wanted`. Raises RolloutFailed after everything swapped was swapped back.

        Cancelled, it stops what it has started and not yet swapped, and leaves the rest as it is.
        """
        here = self.fleet.around.truth.slots.get(self.pool, ())
        slots = {slot.index: slot for slot in here if slot.wanted and not slot.is_found}
        replacements = {one.number: Replacement(slots[one.number], *one[1:]) for one in wanted if one.number in slots}
        first = self._first(list(replacements.values()))
        steps = plan(slots, len(wanted), surge, None if first is None else first.slot.index)
        batches = [[replacements[index] for index in step] for step in steps.steps]
        async with self._undoing(surge):
            if first is not None:
                await self._replace_watched(batches.pop(0))
            await self._add([wanted[index] for index in steps.added])
            await self._replace_all(batches)
        await self.remove([slots[index] for index in steps.removed])

    async def replace(self, slots: Sequence[Slot], surge: int) -> None:
        """Replace what is in these slots by the same anew. Raises RolloutFailed as `run` does."""
        replacements = [Replacement(slot, slot.launch, slot.care) for slot in slots]
        first = self._first(replacements)
        steps = plan(range(len(slots)), len(slots), surge, None if first is None else replacements.index(first))
        batches = [[replacements[index] for index in step] for step in steps.steps]
        async with self._undoing(surge):
            if first is not None:
                await self._replace_watched(batches.pop(0))
            await self._replace_all(batches)

    async def add(self, wanted: Sequence[WantedSlot]) -> None:
        """Further slots; returns when they take requests. Raises RolloutFailed when one does not, and then none is there."""
        async with self._undoing(1):
            await self._add(wanted)

    async def remove(self, slots: Sequence[Slot]) -> None:
        """Drain and stop these, all at once; returns when they are gone."""
        for slot in slots:
            self.say("removing", f"{slot.name}: no longer wanted", backend=slot.name)
            self.fleet.begin_removing(slot, self.reason)
        for slot in slots:
            await self.fleet.remove(slot, self.reason)

    # The steps.

    @asynccontextmanager
    async def _undoing(self, surge: int) -> AsyncIterator[None]:
        """What fails within is swapped back."""
        try:
            yield
        except RolloutFailed as failure:
            await self._swap_back(surge, failure)
            raise

    def _first(self, replacements: Sequence[Replacement]) -> Replacement | None:
        """The one that is looked at before all others: one that gets its share of the traffic."""
        if not self._guard.seconds:
            return None
        local = [one for one in replacements if one.launch.address is None and one.slot.current is not None]
        telling = [one for one in local if one.care.weight and not one.care.backup and _takes_requests(one.slot)]
        return next(iter(telling or local), None)

    async def _replace_all(self, batches: Sequence[Sequence[Replacement]]) -> None:
        for batch in batches:
            if self._watch is not None:
                self._watch.begin()
            await self._replace(batch, self.reason)
        if self._watch is not None:
            self._check(self._watch)

    async def _replace_watched(self, batch: Sequence[Replacement]) -> None:
        """One step that is looked at for as long as the guard wants; the steps that follow, in passing."""
        self._watch = Observation(self.fleet.around, self.pool, self._guard)
        await self._replace(batch, self.reason, is_judged=True)

    async def _add(self, wanted: Sequence[WantedSlot]) -> None:
        """Start further slots and wait until they take requests."""
        added = [self.fleet.add(self.pool, *one) for one in wanted]
        self._added += added
        for slot in added:
            await self.fleet.around.truth.changes.until(lambda slot=slot: slot.current or slot.failed_starts)  # type: ignore[misc]
        lives = [slot.current for slot in added if slot.current is not None]
        for life in lives:
            await life.settled.wait()
        failed = next((life.failure for life in lives if life.failure), "")
        if len(lives) < len(added):
            failed = failed or f"{next(slot.name for slot in added if slot.current is None)} could not be started"
        if failed:
            raise RolloutFailed(failed)
        if self._watch is not None:
            self._watch.add(lives)
        for slot in added:
            self.say("added", f"{slot.name} takes requests", backend=slot.name)

    async def _replace(self, batch: Sequence[Replacement], reason: str, is_judged: bool = False) -> None:
        """One step: all of the batch start, all become ready, all are swapped, all old ones end."""
        fresh: list[tuple[Replacement, Life]] = []
        try:
            for one in batch:
                is_same = one.slot.launch == one.launch and one.slot.care.probe.tls == one.care.probe.tls
                if one.launch.address is not None and is_same:
                    # Nothing of ours runs there; what the file says about it applies at once.
                    self._adopt(one)
                    continue
                try:
                    life = self.fleet.launch(one.slot, one.launch, one.care)
                except LedgerFull as error:
                    raise RolloutFailed(str(error)) from error
                fresh.append((one, life))
                self.say("starting", f"{one.slot.name}: starting generation {life.backend.id.generation}")
            for _, life in fresh:
                await life.settled.wait()
            # All are looked at now: one that was ready may have died while another was still starting.
            failed = next((_trouble(life) for _, life in fresh if _trouble(life)), "")
            if failed:
                raise RolloutFailed(failed)
            if self._watch is not None:
                self._watch.add(life for _, life in fresh)
                await self._judge(self._watch) if is_judged else self._check(self._watch)
            swapped = [(one, self._swap(one, life)) for one, life in fresh]
        except RolloutFailed:
            await self._give_up([life for _, life in fresh])
            raise
        finally:
            for one, life in fresh:
                if one.slot.current is not life and not life.over.is_set():
                    life.retire("rollout ended")
        for one, old in swapped:
            if old is not None:
                old.retire(reason)
            self.say("replaced", f"{one.slot.name}: the new one takes requests, the old one drains")
        for _, old in swapped:
            if old is not None:
                await narrated(self.fleet.around, old.backend, old.gone.wait, self.say)

    async def _judge(self, watch: Observation) -> None:
        self.say("observing", f"observing the new one beside the old ones for {self._guard.seconds:g} s")
        try:
            self.say("observed", await watch.judge())
        except Worse as worse:
            raise RolloutFailed(str(worse)) from worse

    @staticmethod
    def _check(watch: Observation) -> None:
        try:
            watch.check()
        except Worse as worse:
            raise RolloutFailed(str(worse)) from worse

    async def _give_up(self, lives: Sequence[Life]) -> None:
        """The requests that these have got are finished; nobody else gets them."""
        for life in lives:
            life.retire("rolled back")
        for life in lives:
            await narrated(self.fleet.around, life.backend, life.gone.wait, self.say)

    def _swap(self, one: Replacement, life: Life) -> Life | None:
        slot = one.slot
        self._swapped.append(Replacement(slot, slot.launch, slot.care))
        slot.count_restart(self._counted_as)
        if self.reason == "reload":
            self._end_drain(slot)
            life.backend.serve()
        return self.fleet.install(slot, life)

    def _adopt(self, one: Replacement) -> None:
        slot = one.slot
        self._swapped.append(Replacement(slot, slot.launch, slot.care))
        slot.care = one.care
        if self.reason == "reload":
            self._end_drain(slot)
        if slot.current is not None:
            slot.current.care = one.care
            slot.current.backend.weight, slot.current.backend.backup = one.care.weight, one.care.backup
            if not slot.is_drained and not slot.current.over.is_set():
                slot.current.backend.serve()
        self.fleet.around.truth.touch()

    def _end_drain(self, slot: Slot) -> None:
        """What an operator had taken out of rotation comes back with the reload."""
        if slot.is_drained:
            self._undrained.add(slot)
            slot.is_drained = False

    async def _swap_back(self, surge: int, failure: RolloutFailed) -> None:
        self.say("failed", f"{failure}; the old ones of pool {self.pool} go on serving")
        self._watch = None
        for slot in self._added:
            await self.fleet.remove(slot, "rolled back")
        self._added = []
        for slot in self._undrained:
            slot.is_drained = True
        before, self._swapped = self._swapped, []
        self._undrained, self.reason = set(), "rolled back"
        for first in range(0, len(before), surge):
            batch = before[first : first + surge]
            self.say("rolling back", f"{', '.join(one.slot.name for one in batch)}: back to what ran before")
            try:
                await self._replace(batch, "rolled back")
            except RolloutFailed as error:
                self.say("failed", f"{error}; it stays as it is")


def _takes_requests(slot: Slot) -> bool:
    return slot.current is not None and slot.current.backend.takes_requests


def _trouble(life: Life) -> str:
    if life.failure:
        return life.failure
    backend = life.backend
    is_well = backend.phase is Phase.RUNNING and backend.health is Health.HEALTHY and not life.over.is_set()
    return "" if is_well else f"{backend.id.name} was ready, but is {backend.health} and {backend.phase} now"
