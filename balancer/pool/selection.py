"""Which backend takes the next request. Policies are small, pure, and hold nothing but their own turn.

Each proxy process has its own (`proxy/view`), so shares are exact per proxy. A policy is given the candidates that may be chosen
now, whenever that set or a weight changes, and is then asked once per request; `choose` never waits and never fails on a non-empty set.
"""

from bisect import bisect_right
from collections.abc import Callable, Collection, Sequence
from functools import reduce
from itertools import accumulate
from math import ceil, gcd
from random import random
from time import monotonic
from typing import Final, Generic, Protocol, TypeVar

from balancer.pool.latency import Latency
from balancer.pool.ring import POINTS, Ring, place

_LONGEST_CYCLE: Final = 4096  # turns; a longer one is not written down but computed turn by turn
_MEDIAN_FOR: Final = 0.5  # seconds that the median of a pool's latency estimates is used before it is worked out again
_SOONEST: Final = 1e-4  # seconds: below it the estimates are noise, and zero would make load not count
_BOUND: Final = 1.25  # times the average load; HAProxy's documentation suggests 125 to 150 % too


class Candidate(Protocol):
    """What a policy needs to know of a backend."""

    @property
    def name(self) -> str:
        """The slot: stays the same over restarts."""
        ...

    @property
    def latency(self) -> Latency:
        """How long its answers take."""
        ...

    @property
    def weight(self) -> int:
        """Its share relative to the others; above 0."""
        ...

    @property
    def load(self) -> int:
        """Requests in flight on it, over all proxies."""
        ...


C = TypeVar("C", bound=Candidate)


class Policy(Protocol[C]):
    """A way to choose."""

    def offer(self, candidates: Sequence[C]) -> None:
        """Choose among these from now on."""
        ...

    def choose(self, tried: Collection[C], key: bytes = b"") -> C | None:
        """The one that takes the next request; None when all that there are have been tried already.

        key: what the request is known by, for policies that keep together what belongs together.
        """
        ...


class SmoothRoundRobin(Generic[C]):
    """Gives every candidate its share without sending the share in one burst (nginx's smooth weighted round robin).

    Each turn adds every weight to its candidate's credit, takes the largest credit and charges the total to it. The sequence
    repeats after total/gcd turns, so it is computed once per offer and walked. Credits survive an offer: a candidate that
    stays is neither skipped nor served twice because another came or went.
    """

    def __init__(self) -> None:
        self._candidates: Sequence[C] = ()
        self._length = 0  # turns after which the sequence repeats; 0: too many to write down
        self._credit: list[int] = []  # at the end of what is written down
        self._cycle_start: list[int] = []
        self._cycle: list[C] = []
        self._turn = 0

    def offer(self, candidates: Sequence[C]) -> None:
        """Choose among these from now on."""
        before = dict(zip(map(id, self._candidates), self._credits_now(), strict=True))
        kept = [before[id(c)] for c in candidates if id(c) in before]
        # What left took its credit along, and who comes starts level with the rest. Credit is counted in weights, and a
        # turn costs their total: with another total the same debt is another number.
        level = sum(kept) // len(kept) if kept else 0
        old_total = sum(c.weight for c in self._candidates) or 1
        total = sum(c.weight for c in candidates)
        self._credit = [(before.get(id(c), level) - level) * total // old_total for c in candidates]
        self._candidates = tuple(candidates)
        self._cycle = []
        self._turn = 0
        weights = [c.weight for c in candidates]
        self._length = sum(weights) // reduce(gcd, weights) if weights else 0
        if self._length > _LONGEST_CYCLE:
            self._length = 0

    def choose(self, tried: Collection[C], key: bytes = b"") -> C | None:
        """The candidate whose turn it is; one that was tried already gives its turn away."""
        if not self._candidates:
            return None
        chosen = self._next()
        if chosen not in tried:
            return chosen
        for _ in range(max(self._length, len(self._candidates))):
            chosen = self._next()
            if chosen not in tried:
                return chosen
        return None

    def _next(self) -> C:
        turn = self._turn
        if turn == len(self._cycle):
            if not self._length:
                return self._step()
            # A cycle may be walked again only if it ended where it began: the first ones after an offer may still be
            # making up for what came before.
            if not self._cycle or self._credit != self._cycle_start:
                self._cycle_start = list(self._credit)
                self._cycle = [self._step() for _ in range(self._length)]
            turn = 0
        self._turn = turn + 1
        return self._cycle[turn]

    def _step(self) -> C:
        credit, candidates = self._credit, self._candidates
        total = best = 0
        for index, candidate in enumerate(candidates):
            credit[index] += candidate.weight
            total += candidate.weight
            if credit[index] > credit[best]:
                best = index
        credit[best] -= total
        return candidates[best]

    def _credits_now(self) -> list[int]:
        if self._cycle and self._turn < len(self._cycle):
            self._credit = list(self._cycle_start)
            for _ in range(self._turn):
                self._step()
        return self._credit


class LeastConnections(Generic[C]):
    """Takes the candidate with the fewest requests in flight per weight; equals take turns."""

    def __init__(self) -> None:
        self._candidates: Sequence[C] = ()
        self._turn = 0

    def offer(self, candidates: Sequence[C]) -> None:
        """Choose among these from now on."""
        self._candidates = tuple(candidates)

    def choose(self, tried: Collection[C], key: bytes = b"") -> C | None:
        """The least loaded that was not tried."""
        count = len(self._candidates)
        self._turn += 1
        best: C | None = None
        best_load = best_weight = 1
        for step in range(count):
            candidate = self._candidates[(self._turn + step) % count]
            load, weight = candidate.load + 1, candidate.weight
            # load / weight < best_load / best_weight, without a division
            if (best is None or load * best_weight < best_load * weight) and candidate not in tried:
                best, best_load, best_weight = candidate, load, weight
        return best


class RandomTwo(Generic[C]):
    """Draws two by weight and takes the less loaded: nearly as good as looking at all of them (Mitzenmacher 2001), at any size."""

    def __init__(self, draw: Callable[[], float] = random) -> None:
        self._candidates: Sequence[C] = ()
        self._borders: list[int] = []
        self._draw = draw

    def offer(self, candidates: Sequence[C]) -> None:
        """Choose among these from now on."""
        self._candidates = tuple(candidates)
        self._borders = list(accumulate(c.weight for c in candidates))

    def choose(self, tried: Collection[C], key: bytes = b"") -> C | None:
        """The better of two drawn ones."""
        pair = self._pair(tried)
        if pair is None:
            return None
        first, second = pair
        # Equals are decided by the draw, and so by weight.
        return first if first.load * second.weight <= second.load * first.weight else second

    def _pair(self, tried: Collection[C]) -> tuple[C, C] | None:
        """Two different ones that were not tried, as long as there are two."""
        candidates, borders = self._candidates, self._borders
        if tried:
            candidates = [c for c in candidates if c not in tried]
            borders = list(accumulate(c.weight for c in candidates))
        if len(candidates) < 2:
            return (candidates[0], candidates[0]) if candidates else None
        total = borders[-1]
        first = bisect_right(borders, self._draw() * total)
        # The second is drawn from what is left: skip over the first one's stretch.
        start = borders[first - 1] if first else 0
        width = borders[first] - start
        at = self._draw() * (total - width)
        second = bisect_right(borders, at if at < start else at + width)
        return candidates[first], candidates[min(second, len(candidates) - 1)]


class PeakEwma(RandomTwo[C]):
    """Of two drawn ones, takes the one whose answer is expected sooner: (in flight + 1) × latency estimate (`pool.latency`)."""

    def __init__(self, draw: Callable[[], float] = random, clock: Callable[[], float] = monotonic) -> None:
        super().__init__(draw)
        self._clock = clock
        self._median = 0.0
        self._median_at = -1.0

    def choose(self, tried: Collection[C], key: bytes = b"") -> C | None:
        """The sooner of two drawn ones."""
        pair = self._pair(tried)
        if pair is None:
            return None
        now = self._clock()
        if now - self._median_at > _MEDIAN_FOR:
            estimates = sorted(c.latency.estimate(now, self._median) for c in self._candidates)
            self._median = estimates[len(estimates) // 2]
            self._median_at = now
        first, second = pair
        # Drawn by weight already, so cost alone decides.
        if self._cost(first, now) <= self._cost(second, now):
            return first
        return second

    def _cost(self, candidate: C, now: float) -> float:
        return (candidate.load + 1) * (candidate.latency.estimate(now, self._median) + _SOONEST)


class Hash(Generic[C]):
    """The same key goes to the same candidate while that one is there, unless it has far more than its share in flight.

    A ring of points per candidate (Karger 1997), so that one that comes or goes moves only its own keys (unless it alone is
    the heaviest, by which all are measured); loads are bounded (Mirrokni 2016): whoever is above 1.25 times its share
    passes the request on along the ring.
    """

    def __init__(self) -> None:
        self._candidates: Sequence[C] = ()
        self._ring = Ring[C]()
        self._total = 1

    def offer(self, candidates: Sequence[C]) -> None:
        """Choose among these from now on."""
        self._candidates = tuple(candidates)
        weights = [c.weight for c in candidates]
        self._total = sum(weights) or 1
        # Not the average: it changes with everyone that comes or goes, and with it everyone's points.
        heaviest = max(weights, default=1)
        # Of two generations of a slot the newer comes first: the other is about to leave.
        self._ring.offer(candidates, [max(1, round(POINTS * weight / heaviest)) for weight in weights])

    def choose(self, tried: Collection[C], key: bytes = b"") -> C | None:
        """The first on the ring behind the key that has room; the first of all if none has."""
        owners = self._ring.owners
        if not owners:
            return None
        start = bisect_right(self._ring.points, place(key))
        in_flight = sum(c.load for c in self._candidates) + 1
        first: C | None = None
        seen: set[int] = set()
        for step in range(len(owners)):
            owner = owners[(start + step) % len(owners)]
            if id(owner) in seen:
                continue
            seen.add(id(owner))
            if owner not in tried:
                if owner.load < ceil(_BOUND * in_flight * owner.weight / self._total):
                    return owner
                first = first or owner
            if len(seen) == len(self._candidates):
                break
        return first


POLICIES: Final[dict[str, Callable[[], "Policy[Candidate]"]]] = {
    "weighted-round-robin": SmoothRoundRobin,
    "least-connections": LeastConnections,
    "random-two": RandomTwo,
    "peak-ewma": PeakEwma,
    "hash": Hash,
}
