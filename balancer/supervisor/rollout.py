"""Rolling replacement of a pool: new up, ready and healthy, swap, then the old ones drain; a few at a time.

Whatever goes wrong before a swap stops the *new* ones and ends the rollout; everything old is still serving. What had been
swapped by then is swapped back.
"""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

from balancer.errors import BalancerError
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.slot import Life, Slot
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.wanted import WantedSlot
from balancer.telemetry.ledger import LedgerFull

Say = Callable[..., None]  # (event, text, **fields)


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


def plan(present: Collection[int], wanted: int, surge: int) -> PoolPlan:
    """From the slots `present` to those below `wanted`, `surge` (at least 1) replaced at a time. Pure.

    A reload that another one took over from may have left gaps among those present.
    """
    kept = sorted(index for index in present if index < wanted)
    return PoolPlan(
        added=tuple(index for index in range(wanted) if index not in present),
        steps=tuple(tuple(kept[first : first + surge]) for first in range(0, len(kept), surge)),
        removed=tuple(sorted(index for index in present if index >= wanted)),
    )


class Rollout:
    """Executes the plan of one pool."""

    def __init__(self, fleet: Fleet, pool: str, say: Say, reason: str = "reload") -> None:
        self.fleet = fleet
        self.pool = pool
        self.say = say
        self.reason = reason
        self._swapped: list[Replacement] = []  # with what was there before
        self._added: list[Slot] = []

    async def run(self, wanted: Sequence[WantedSlot], surge: int) -> None:
        """Bring the pool to `wanted`. Raises RolloutFailed after everything swapped was swapped back.

        Cancelled, it stops what it has started and not yet swapped, and leaves the rest as it is.
        """
        slots = {slot.index: slot for slot in self.fleet.around.truth.slots.get(self.pool, ()) if slot.wanted}
        steps = plan(slots, len(wanted), surge)
        try:
            await self._add([wanted[index] for index in steps.added])
            for step in steps.steps:
                await self._replace([Replacement(slots[index], *wanted[index][1:]) for index in step], self.reason)
        except RolloutFailed as failure:
            await self._swap_back(surge, failure)
            raise
        for index in steps.removed:
            self.say("removing", f"{slots[index].name}: no longer wanted", backend=slots[index].name)
            self.fleet.begin_removing(slots[index], self.reason)
        for index in steps.removed:
            await self.fleet.remove(slots[index], self.reason)

    async def _add(self, wanted: Sequence[WantedSlot]) -> None:
        """Start further slots and wait until they take requests."""
        self._added = [self.fleet.add(self.pool, *one) for one in wanted]
        for slot in self._added:
            await self.fleet.around.truth.changes.until(lambda slot=slot: slot.current is not None)  # type: ignore[misc]
        lives = [slot.current for slot in self._added if slot.current is not None]
        for life in lives:
            await life.settled.wait()
        failed = next((life.failure for life in lives if life.failure), "")
        if failed:
            raise RolloutFailed(failed)
        for slot in self._added:
            self.say("added", f"{slot.name} takes requests", backend=slot.name)

    async def _replace(self, batch: Sequence[Replacement], reason: str) -> None:
        """One step: all of the batch start, all become ready, all are swapped, all old ones end."""
        fresh: list[tuple[Replacement, Life]] = []
        try:
            for one in batch:
                if one.launch.address is not None and one.slot.launch == one.launch:
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
            swapped = [(one, self._swap(one, life)) for one, life in fresh]
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
                await old.gone.wait()

    def _swap(self, one: Replacement, life: Life) -> Life | None:
        slot = one.slot
        self._swapped.append(Replacement(slot, slot.launch, slot.care))
        slot.count_restart("reload" if self.reason == "reload" else "operator")
        return self.fleet.install(slot, life)

    def _adopt(self, one: Replacement) -> None:
        slot = one.slot
        self._swapped.append(Replacement(slot, slot.launch, slot.care))
        slot.care = one.care
        if slot.current is not None:
            slot.current.care = one.care
            slot.current.backend.weight, slot.current.backend.backup = one.care.weight, one.care.backup
        self.fleet.around.truth.touch()

    async def _swap_back(self, surge: int, failure: RolloutFailed) -> None:
        self.say("failed", f"{failure}; the old ones of pool {self.pool} go on serving")
        for slot in self._added:
            await self.fleet.remove(slot, "rolled back")
        self._added = []
        before, self._swapped = self._swapped, []
        for first in range(0, len(before), surge):
            batch = before[first : first + surge]
            self.say("rolling back", f"{', '.join(one.slot.name for one in batch)}: back to what ran before")
            try:
                await self._replace(batch, "rolled back")
            except RolloutFailed as error:
                self.say("failed", f"{error}; it stays as it is")


def _trouble(life: Life) -> str:
    if life.failure:
        return life.failure
    return "" if life.backend.takes_requests else f"{life.backend.id.name} was ready, but takes no requests any more"
