"""Backends that have grown too large, too busy or too old are replaced: the new one first, one at a time per pool.

Not while a job changes the pools, nor while one of the pool is down or has just crashed: it waits until the pool is whole. What is
larger than `limits.memory`, though, is killed in any case, before the machine or its cgroup has no memory left for anybody.
"""

import random
from collections.abc import Callable
from typing import Final, NamedTuple

import trio

from balancer.errors import BalancerError
from balancer.pool.backend import BackendId
from balancer.pool.lifecycle import Health, Phase
from balancer.pool.trend import Trend
from balancer.settings.model_pool import Restart
from balancer.supervisor.clock import now
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.memory import excess, hard_limit, megabytes
from balancer.supervisor.resources import Usage
from balancer.supervisor.rollout import Rollout
from balancer.supervisor.slot import Slot
from balancer.supervisor.truth import Truth
from balancer.telemetry.table import requests_total

TURN: Final = 1.0  # seconds between two looks
JITTER: Final = 0.1  # of a limit either way: backends that started together must not go together
FIRST_PAUSE: Final = 10.0  # seconds after a replacement that did not come up; doubles
LONGEST_PAUSE: Final = 600.0


class Due(NamedTuple):
    """Why a backend is to be replaced: the metric's label, and for people."""

    reason: str
    text: str


class Numbers(NamedTuple):
    """What a backend has come to. memory: resident bytes of its process group; age: seconds."""

    memory: int
    requests: int
    age: float


def due(limits: Restart, numbers: Numbers, dice: float) -> Due | None:
    """Whether it is time, and why. Pure. dice: 0 to 1, one throw per process: the jitter of the two limits that all reach together."""
    factor = 1 + JITTER * (2 * dice - 1)
    if limits.max_memory and numbers.memory > limits.max_memory:
        return Due("memory", f"{megabytes(numbers.memory)} of memory, more than {megabytes(limits.max_memory)}")
    if limits.max_requests and numbers.requests >= limits.max_requests * factor:
        return Due("requests", f"{numbers.requests} requests, about {limits.max_requests}")
    if limits.max_age and numbers.age >= limits.max_age * factor:
        return Due("age", f"{numbers.age:.0f} s old, about {limits.max_age:g} s")
    return None


class Recycler:
    """Looks at every backend once a second. is_idle: whether nobody else changes the processes of pools."""

    def __init__(self, fleet: Fleet, is_idle: Callable[[], bool]) -> None:
        self._fleet = fleet
        self._truth: Truth = fleet.around.truth
        self._is_idle = is_idle
        self._usage = Usage(fleet.pid_of)
        self._dice: dict[BackendId, float] = {}
        self._scopes: dict[str, trio.CancelScope] = {}  # of the pools where one is being replaced
        self._pauses: dict[str, tuple[float, float]] = {}  # pool: until when, and how long that was

    async def run(self) -> None:
        """Look, and replace; until cancelled."""
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(TURN)
                self._kill_overgrown()
                if self._is_idle():
                    for pool in self._truth.settings.pool:
                        self._look_at(pool, nursery)
                self._dice = {id: dice for id, dice in self._dice.items() if id in self._truth.backends}  # noqa: A001

    def give_way(self) -> None:
        """A job is about to change the pools: what was not swapped yet is stopped, the rest is as it should be."""
        for scope in self._scopes.values():
            scope.cancel()

    def _kill_overgrown(self) -> None:
        """Also what starts, drains or is not swapped yet: a limit is the pool's, as it is in force now."""
        pools = self._truth.pools
        for backend in self._truth.backends.values():
            limit = hard_limit(pools, backend.pool)
            life = self._fleet.life_of(backend.id) if limit else None
            if life is None or life.process is None:
                continue
            resources = self._usage.of(life.process.pid)
            if resources is not None and (why := excess(resources.memory_bytes, limit)):
                life.kill_overgrown(why)

    def _look_at(self, pool: str, nursery: trio.Nursery) -> None:
        limits = self._truth.settings.pool[pool].restart
        if not (limits.max_memory or limits.max_requests or limits.max_age) or pool in self._scopes:
            return
        slots = self._truth.slots.get(pool, [])
        if now() < self._pauses.get(pool, (0.0, 0.0))[0] or not all(_is_well(slot) for slot in slots):
            return
        found = [(slot, why) for slot in slots if (why := self._due(slot, limits))]
        if found:
            # The one furthest beyond its limit, or those of low numbers would have their turn again and again.
            slot, why = max(found, key=lambda one: self._excess(one[0], limits))
            self._scopes[pool] = trio.CancelScope()
            nursery.start_soon(self._recycle, slot, why, name=f"recycle {slot.name}")

    def _due(self, slot: Slot, limits: Restart) -> Due | None:
        numbers = self._numbers(slot, limits)
        if numbers is None or slot.current is None:
            return None
        return due(limits, numbers, self._dice.setdefault(slot.current.backend.id, random.random()))

    def _excess(self, slot: Slot, limits: Restart) -> float:
        numbers = self._numbers(slot, limits)
        pairs = zip(numbers or (), (limits.max_memory, limits.max_requests, limits.max_age), strict=False)
        return max((number / limit for number, limit in pairs if limit), default=0.0)

    def _numbers(self, slot: Slot, limits: Restart) -> Numbers | None:
        life = slot.current
        if life is None or life.process is None or slot.is_drained:
            return None
        resources = self._usage.of(life.process.pid) if limits.max_memory else None
        row = self._truth.ledger.table.backend_sums(life.backend.row) if limits.max_requests else []
        memory = resources.memory_bytes if resources is not None else 0
        if memory:
            generation = life.backend.id.generation
            slot.trends = {generation: slot.trends.get(generation) or Trend()}
            slot.trends[generation].add(now(), memory)
        return Numbers(memory, requests_total(row), now() - life.backend.since)

    async def _recycle(self, slot: Slot, why: Due) -> None:
        pool, events = slot.pool, self._fleet.around.events
        events.record("recycling", pool, slot.name, slot.generation, reason=why.text)
        try:
            with self._scopes[pool]:
                await Rollout(self._fleet, pool, _unheard, why.reason).replace([slot], 1)
                self._pauses.pop(pool, None)
        except BalancerError as error:
            # The old one serves on; what keeps the new one from starting will not have gone in a second.
            pause = min(2 * self._pauses.get(pool, (0.0, FIRST_PAUSE / 2))[1], LONGEST_PAUSE)
            self._pauses[pool] = now() + pause, pause
            events.record(
                "recycle failed", pool, slot.name, slot.generation, reason=str(error), next_try=f"{pause:g} s"
            )
        finally:
            del self._scopes[pool]


def _is_well(slot: Slot) -> bool:
    """Whether it is as it should be, or at least not about to change: elsewhere, on hold, or taken out by an operator."""
    life = slot.current
    if slot.held or slot.launch.address is not None:
        return True
    if life is None or life.over.is_set() or life.backend.phase is not Phase.RUNNING:
        return False
    crashes, calm = slot.history.crashes, slot.care.restart.healthy_after
    has_crashed = bool(crashes) and now() - crashes[-1] < calm
    return life.backend.health is Health.HEALTHY and not has_crashed


def _unheard(event: str, text: str, **fields: object) -> None:
    """Nobody watches: the events tell of it."""
