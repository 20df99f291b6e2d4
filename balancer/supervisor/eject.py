"""Takes backends out of rotation that traffic shows to be in trouble, and lets them back (`pool.ejection` decides)."""

from typing import Final

import trio

from balancer.pool.backend import Backend, BackendId
from balancer.pool.ejection import Sentence, Window, laggards, may_eject
from balancer.pool.lifecycle import Health, Phase
from balancer.settings.model_pool import Eject
from balancer.supervisor.clock import now
from balancer.supervisor.truth import Truth
from balancer.telemetry.events import Events
from balancer.telemetry.table import SERVER_ERRORS, requests_total

TURN: Final = 1.0  # seconds: what a window is made of


class Ejector:
    """Owns the value *ejected* on the health axis; probes own the others, and theirs is what a backend comes back to."""

    def __init__(self, truth: Truth, events: Events) -> None:
        self._truth = truth
        self._events = events
        self._sentences: dict[str, Sentence] = {}  # per slot: a new process in it does not start with a clean record
        self._windows: dict[BackendId, Window] = {}
        self._before: dict[BackendId, Health] = {}
        self._woken = trio.Event()

    def failing(self, id: BackendId) -> None:  # noqa: A002
        """A proxy has seen `eject.failures` failures in a row on it."""
        backend = self._truth.backends.get(id)
        if backend is not None:
            settings = self._settings(backend)
            if settings is not None and settings.failures:
                self._eject(backend, settings, f"{settings.failures} failures in a row")

    async def run(self) -> None:
        """Let back whose time is over, and compare success rates once a second."""
        while True:
            deadlines = [self._sentences[id.name].until for id in self._before]  # noqa: A001
            wait = min([TURN, *(until - now() for until in deadlines)])
            with trio.move_on_after(max(0.01, wait)):
                await self._woken.wait()
            self._woken = trio.Event()
            self._let_back()
            self._compare()

    def _settings(self, backend: Backend) -> Eject | None:
        pool = self._truth.pools.get(backend.pool)
        return pool.eject if pool is not None else None

    def _eject(self, backend: Backend, settings: Eject, why: str) -> None:
        if backend.health is not Health.HEALTHY or not backend.takes_requests:
            return
        pool = [b for b in self._truth.backends.values() if b.pool == backend.pool and b.phase is Phase.RUNNING]
        out = sum(b.health is Health.EJECTED for b in pool)
        name, generation = backend.id
        if not may_eject(len(pool), out, settings.max):
            self._events.record("not ejected", backend.pool, name, generation, reason=why, ejected=out, of=len(pool))
            return
        seconds = self._sentences.setdefault(name, Sentence()).begin(now(), settings.time)
        self._before[backend.id] = backend.health
        backend.health = Health.EJECTED
        self._windows.pop(backend.id, None)
        for slot in self._truth.slots.get(backend.pool, ()):
            if slot.name == name:
                slot.ejections += 1
        self._truth.touch()
        self._events.record("ejected", backend.pool, name, generation, reason=why, seconds=round(seconds, 1))
        self._woken.set()

    def _let_back(self) -> None:
        for id in list(self._before):  # noqa: A001
            backend = self._truth.backends.get(id)
            if backend is None or backend.health is not Health.EJECTED:
                del self._before[id]  # gone, or its probes had the last word
            elif self._sentences[id.name].until <= now():
                backend.health = self._before.pop(id)
                self._truth.touch()
                self._events.record("let back", backend.pool, id.name, id.generation)

    def _compare(self) -> None:
        table = self._truth.ledger.table
        for name, pool in self._truth.pools.items():
            margin = pool.eject.success_margin
            backends = [b for b in self._truth.backends.values() if b.pool == name and b.takes_requests]
            if not margin or len(backends) < 2:
                continue
            for backend in backends:
                row = table.backend_sums(backend.row)
                self._windows.setdefault(backend.id, Window()).add(requests_total(row), row[SERVER_ERRORS])
            counts = {b.id.name: self._windows[b.id].counts for b in backends}
            for slow, rate, others in laggards(counts, margin):
                backend = next(b for b in backends if b.id.name == slow)
                self._eject(backend, pool.eject, f"{rate:.0%} of its requests succeed, {others:.0%} of the others'")
        self._windows = {id: window for id, window in self._windows.items() if id in self._truth.backends}  # noqa: A001
