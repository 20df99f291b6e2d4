"""The slots of all pools: created, kept filled, given up. One slot has one replacement, whatever happened in which order."""

import random

import trio

from balancer.errors import BalancerError
from balancer.pool.backend import BackendId
from balancer.supervisor.backend import LocalLife
from balancer.supervisor.clock import now
from balancer.supervisor.remote import RemoteLife
from balancer.supervisor.slot import Life, Slot, drain_end
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.surroundings import Surroundings


class Fleet:
    """Keeps each slot filled for as long as it is wanted. Runs in the nursery given."""

    def __init__(self, around: Surroundings, nursery: trio.Nursery) -> None:
        self.around = around
        self._nursery = nursery
        self._lives: set[Life] = set()
        self._past: dict[str, Slot] = {}  # removed, by name

    def add(self, pool: str, index: int, launch: Launch, care: Care, *, is_found: bool = False) -> Slot:
        """A new slot; its first process is started. One that was found under that number is to look for another (`names`)."""
        slots = self.around.truth.slots.setdefault(pool, [])
        for other in slots:
            other.is_displaced |= other.is_found and other.index == index
        # One of this name may still be leaving.
        before = next((slot for slot in slots if slot.index == index), self._past.pop(f"{pool}-{index}", None))
        slot = Slot(pool, index, launch, care, before)
        slot.is_found = is_found
        slots.append(slot)
        slots.sort(key=lambda slot: slot.index)
        self.around.truth.touch()
        self._nursery.start_soon(self._keep, slot, name=f"slot {slot.name}")
        return slot

    def begin_removing(self, slot: Slot, reason: str) -> None:
        """Drain and stop what is there, then forget the slot. It goes on whoever loses interest meanwhile."""
        if slot.wanted:
            slot.wanted = False
            lives = [life for life in self._lives if life.slot is slot]
            for life in lives:
                life.retire(reason)
            slot.kick()
            self._nursery.start_soon(self._forget, slot, lives)

    async def remove(self, slot: Slot, reason: str) -> None:
        """As `begin_removing`; returns when nothing is left."""
        self.begin_removing(slot, reason)
        truth = self.around.truth
        await truth.changes.until(lambda: slot not in truth.slots.get(slot.pool, ()))

    def begin_removing_pool(self, pool: str, reason: str) -> None:
        """All of its slots at once."""
        for slot in list(self.around.truth.slots.get(pool, ())):
            self.begin_removing(slot, reason)

    async def remove_pool(self, pool: str, reason: str) -> None:
        """As `begin_removing_pool`; returns when nothing is left."""
        self.begin_removing_pool(pool, reason)
        truth = self.around.truth
        await truth.changes.until(lambda: not truth.slots.get(pool))
        truth.slots.pop(pool, None)

    def launch(self, slot: Slot, launch: Launch, care: Care) -> Life:
        """Start one more generation of the slot beside whatever is there. Raises LedgerFull."""
        made = RemoteLife if launch.address is not None else LocalLife
        life: Life = made(slot, launch, care, self.around)
        if slot.is_drained:
            life.backend.drain(drain_end(care))
        self._lives.add(life)
        self._nursery.start_soon(
            self._run, life, name=f"{life.backend.id.name} generation {life.backend.id.generation}"
        )
        return life

    def install(self, slot: Slot, life: Life) -> Life | None:
        """Make `life` the one that the slot counts on; gives back the one that it replaces."""
        old, slot.current = slot.current, life
        slot.launch, slot.care = life.launch, life.care
        slot.held = False
        slot.failed_starts = 0
        slot.history.forget()
        slot.kick()
        self.around.truth.touch()
        return old

    def suspect(self, id: BackendId) -> None:  # noqa: A002
        """A request met trouble with this backend."""
        life = self.life_of(id)
        if life is not None:
            life.probe_now()

    def life_of(self, id: BackendId) -> Life | None:  # noqa: A002
        """The life of this generation; None when it is gone."""
        return next((life for life in self._lives if life.backend.id == id), None)

    def pid_of(self, id: BackendId) -> int | None:  # noqa: A002
        """The process of this generation; None when it is not ours or gone."""
        life = self.life_of(id)
        return life.process.pid if life is not None and life.process is not None else None

    async def stop(self) -> None:
        """Stop everything at once, gracefully; returns when the last process is gone."""
        lives = list(self._lives)
        for slot in self.around.truth.all_slots():
            slot.wanted = False
            slot.kick()
        for life in lives:
            life.retire("balancer stops")
        for life in lives:
            await life.gone.wait()

    def kill(self) -> None:
        """SIGKILL to every process of every backend."""
        for slot in self.around.truth.all_slots():
            slot.wanted = False
            slot.kick()
        for life in list(self._lives):
            life.kill()

    async def _run(self, life: Life) -> None:
        try:
            await life.run()
        except Exception as error:
            # A bug of ours in one life ends that life, which its slot counts as a crash; never the supervisor.
            self.around.bug(f"{life.backend.id.name}: its task broke off", error)
        finally:
            self._lives.discard(life)

    async def _forget(self, slot: Slot, lives: list[Life]) -> None:
        for life in lives:
            await life.gone.wait()
        slots = self.around.truth.slots.get(slot.pool, [])
        if slot in slots:
            slots.remove(slot)
        if all(other.name != slot.name for other in slots):
            self._past[slot.name] = slot
        self.around.truth.touch()

    async def _keep(self, slot: Slot) -> None:
        """Fill the slot again each time that what it counts on is over."""
        while slot.wanted:
            life = slot.current
            if life is not None:
                await life.over.wait()
                # A rollout may have put another in its place, or an operator may want the slot no more.
                if slot.current is life and slot.wanted:
                    slot.current = None
                    self._account(slot, life)
                continue
            kicked = slot.kicked
            if slot.held:
                await kicked.wait()
                continue
            with trio.move_on_after(max(0.0, slot.resume_at - now())) as pause:
                await kicked.wait()
            if pause.cancelled_caught:
                try:
                    slot.current = self.launch(slot, slot.launch, slot.care)
                except BalancerError as error:
                    self.around.events.record("start failed", slot.pool, slot.name, reason=str(error))
                    slot.failed_starts += 1
                    slot.resume_at = now() + slot.care.restart.max_delay
                    self.around.truth.touch()

    def _account(self, slot: Slot, life: Life) -> None:
        """What the end of `life` means for when the next one starts."""
        events = self.around.events
        instant = now()
        ran = instant - life.ready_at if life.ready_at else 0.0
        if life.leaving and ran >= slot.care.restart.delay:
            # No crash; but one that left as soon as it came is treated as one, or it would be a fork storm.
            slot.resume_at = 0.0
            slot.count_restart("operator")
            events.record("restarting", slot.pool, slot.name, slot.generation, reason=life.leaving)
            return
        slot.failed_starts = 0 if life.ready_at else slot.failed_starts + 1
        slot.count_restart(life.cause)
        delay = slot.history.after_crash(slot.care.restart, instant, ran, random.random())
        if delay is None:
            slot.held = True
            events.record("hold", slot.pool, slot.name, slot.generation, crashes=len(slot.history.crashes))
        else:
            slot.resume_at = instant + delay
            events.record("restarting", slot.pool, slot.name, slot.generation, delay=round(delay, 3))
        self.around.truth.touch()
