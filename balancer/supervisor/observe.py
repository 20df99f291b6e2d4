"""A rollout's look at traffic: the new backends beside the old ones, over the same window of exact counts.

While it looks both serve, and every old one goes on: what is taken back then costs no request.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import trio

from balancer.errors import BalancerError
from balancer.pool.backend import Backend, BackendId
from balancer.pool.comparison import EARLY, SURE, Margins, Sample, Verdict, compare
from balancer.pool.lifecycle import Health
from balancer.supervisor.clock import now
from balancer.supervisor.slot import Life
from balancer.supervisor.surroundings import Surroundings
from balancer.telemetry.table import BUCKETS, RESPONSE, SERVER_ERRORS, histogram_of, requests_total

TURN: Final = 0.25  # seconds between two looks
REPORT_TIME: Final = 0.5  # seconds for the proxies to say what has no answer yet
_EVENTS: Final = 500  # newest events among which the crash of a backend that has just crashed is found


class Worse(BalancerError):
    """The new release does worse; the text gives the numbers."""


@dataclass(frozen=True, slots=True)
class Guard:
    """`[pool.NAME.rollout]`, what concerns the look at traffic. seconds 0: none is taken."""

    seconds: float = 0.0
    margins: Margins = field(default_factory=Margins)
    may_be_inconclusive: bool = True


UNGUARDED: Final = Guard()


class Observation:
    """One rollout's. Backends of the pool that are not added as new ones are old; of the same group, if it has any."""

    def __init__(self, around: Surroundings, pool: str, guard: Guard) -> None:
        self._around = around
        self._pool = pool
        self._guard = guard
        self._new: dict[BackendId, Life] = {}
        self._begun = now()
        self._first: dict[BackendId, Sample] = {}  # as the window began, or as it came into sight within it
        self._last: dict[BackendId, Sample] = {}  # kept when a backend has gone

    def add(self, lives: Iterable[Life]) -> None:
        """These are of the new release."""
        self._new |= {life.backend.id: life for life in lives}

    def begin(self) -> None:
        """A new window."""
        self._begun = now()
        self._first.clear()
        self._last.clear()
        self._look()

    async def judge(self) -> str:
        """Look for the guard's time; a sentence about the outcome. Raises Worse as soon as it is clear."""
        self.begin()
        until = self._begun + self._guard.seconds
        while (left := until - now()) > 0:
            await trio.sleep(min(TURN, left))
            self.check()
        new, old = await self._with_waiting()
        verdict, text = self._compare(new, old, SURE)
        text = f"{self._title}: {text}, within the same {self._guard.seconds:g} s"
        if verdict is Verdict.WORSE or (verdict is Verdict.INCONCLUSIVE and not self._guard.may_be_inconclusive):
            raise Worse(
                text if verdict is Verdict.WORSE else f"inconclusive, and rollout.on_inconclusive is rollback: {text}"
            )
        return f"{verdict}: {text}"

    def check(self) -> None:
        """A quick look in passing. Raises Worse when a new one has crashed, or when it is beyond doubt."""
        self._look()
        for life in self._new.values():
            if life.over.is_set():
                raise Worse(f"{_title(life)} {self._end_of(life)}")
        verdict, text = self._compare(*self._samples(), EARLY)
        if verdict is Verdict.WORSE:
            raise Worse(f"{self._title}: {text}, within the same {now() - self._begun:.1f} s")

    def _compare(self, new: Sample, old: Sample, certainty: float) -> tuple[Verdict, str]:
        margins = self._guard.margins
        if self._is_out():
            # Taken out of rotation it gets no more requests, and what it did until then must do.
            margins = Margins(margins.error_rate, margins.slowdown, 1)
        return compare(new, old, margins, BUCKETS, certainty)

    def _is_out(self) -> bool:
        """Whether probes or traffic have taken a new one out of rotation, and none of the old ones."""
        out = (Health.UNHEALTHY, Health.EJECTED)
        new = any(life.backend.health in out for life in self._new.values())
        return new and not any(backend.health in out for backend in self._old())

    def _look(self) -> None:
        for backend in [*self._old(), *(life.backend for life in self._new.values())]:
            if backend.id in self._around.truth.backends:
                sample = self._read(backend)
                self._first.setdefault(backend.id, sample)
                self._last[backend.id] = sample

    def _old(self) -> list[Backend]:
        others = [b for b in self._around.truth.backends.values() if b.pool == self._pool and b.id not in self._new]
        groups = {life.backend.group for life in self._new.values()}
        return [backend for backend in others if backend.group in groups] or others

    def _read(self, backend: Backend) -> Sample:
        row = self._around.truth.ledger.table.backend_sums(backend.row)
        buckets, seconds = histogram_of(row, RESPONSE)
        return Sample(requests_total(row), row[SERVER_ERRORS], tuple(buckets), seconds)

    def _samples(self) -> tuple[Sample, Sample]:
        new, old = Sample(), Sample()
        for id, last in self._last.items():  # noqa: A001
            window = last - self._first[id]
            if id in self._new:
                new += window
            else:
                old += window
        return new, old

    async def _with_waiting(self) -> tuple[Sample, Sample]:
        """The counts, and what was asked within the window and has no answer yet: a release that hangs answers nothing."""
        self._look()
        waiting: dict[BackendId, list[float]] = {}
        window = now() - self._begun

        async def ask(id: BackendId) -> None:  # noqa: A002
            for request in await self._around.holders(id):
                if not request.get("answered") and request["seconds"] <= window:
                    waiting.setdefault(id, []).append(request["seconds"])

        with trio.move_on_after(REPORT_TIME):
            async with trio.open_nursery() as nursery:
                for id in self._last:  # noqa: A001
                    nursery.start_soon(ask, id)
        new, old = self._samples()
        for id, ages in waiting.items():  # noqa: A001
            if id in self._new:
                new = new.waiting(ages, BUCKETS)
            else:
                old = old.waiting(ages, BUCKETS)
        return new, old

    @property
    def _title(self) -> str:
        titles = [_title(life) for life in islice(self._new.values(), 3)]
        more = len(self._new) - len(titles)
        return ", ".join(titles) + (f" and {more} more" if more else "")

    def _end_of(self, life: Life) -> str:
        id = life.backend.id  # noqa: A001
        for event in reversed(self._around.events.last(_EVENTS)):
            if event.kind == "crashed" and (event.backend, event.generation) == id:
                served = self._last.get(id, Sample()).requests
                return f"crashed after {served} requests: {event.detail.get('how', '')}"
        return f"has left: {life.leaving}" if life.leaving else "has ended"


def _title(life: Life) -> str:
    return f"{life.backend.id.name} (generation {life.backend.id.generation})"
