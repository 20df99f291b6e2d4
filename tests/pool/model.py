"""Backends in virtual time, small enough to be seen through: requests arrive at random, each backend does one at a time.

`tests/benchmarks/simulate.py` is the large one, for reports; here what happens can be changed between two runs.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from balancer.pool.latency import Latency
from balancer.pool.selection import Policy

FAILURE_COUNTS_AS = 1.0  # seconds, as in `proxy/view`


@dataclass(eq=False)
class Item:
    """A policy's candidate. Requests take `seconds` on average, one after another; a failing one fails after that time."""

    name: str
    weight: int = 1
    load: int = 0
    latency: Latency = field(default_factory=Latency)
    seconds: float = 0.01
    is_failing: bool = False
    free_at: float = 0.0


def items(*weights: int) -> list[Item]:
    """b0, b1, … of these weights."""
    return [Item(f"b{index}", weight) for index, weight in enumerate(weights)]


@dataclass
class Run:
    """Requests by backend, and how long each of those that began in this run was there, waiting included; seconds."""

    taken: Counter[str] = field(default_factory=Counter)
    times: list[float] = field(default_factory=list)
    highest: Counter[str] = field(default_factory=Counter)  # load of a backend at its highest

    def share(self, name: str) -> float:
        """Of all requests."""
        return self.taken[name] / self.taken.total()

    def p99(self) -> float:
        """What 99 % did not exceed."""
        return sorted(self.times)[int(len(self.times) * 0.99)]


class Model:
    """One proxy in front of a pool. make: the policy, of the model's clock; the seed decides all that is left to chance."""

    def __init__(
        self, make: Callable[[Callable[[], float]], Policy[Item]], pool: Sequence[Item], seed: int = 5
    ) -> None:
        self.now = 0.0
        self.policy = make(lambda: self.now)
        self.pool = {item.name: item for item in pool}
        self.policy.offer(pool)
        self._chance = Random(seed)
        self._ends: list[tuple[float, int, Item, float, Run]] = []
        self._number = count()

    def run(self, requests: int, rate: float, key: Callable[[int], bytes] = lambda _: b"") -> Run:
        """So many requests, so many a second; key: of the nth."""
        run = Run()
        for number in range(requests):
            self.now += self._chance.expovariate(rate)
            self._finish()
            item = self.policy.choose((), key(number))
            assert item is not None
            item.load += 1
            item.free_at = max(item.free_at, self.now) + self._chance.expovariate(1 / item.seconds)
            heappush(self._ends, (item.free_at, next(self._number), item, self.now, run))
            run.taken[item.name] += 1
            run.highest[item.name] = max(run.highest[item.name], item.load)
        return run

    def _finish(self) -> None:
        while self._ends and self._ends[0][0] <= self.now:
            end, _, item, began, run = heappop(self._ends)
            item.load -= 1
            run.times.append(end - began)
            if item.is_failing:
                item.latency.penalise(FAILURE_COUNTS_AS, end)
            else:
                item.latency.observe(end - began, end)
