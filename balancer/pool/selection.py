"""Which backend takes the next request. Policies are small, pure, and hold nothing but their own turn.

Each proxy process has its own (`proxy/view`), so shares are exact per proxy. A policy is given the candidates that may be chosen
now, whenever that set or a weight changes, and is then asked once per request; `chosen` never waits and never fails on a non-empty set.
"""

from collections.abc import Callable, Collection, Sequence
from functools import reduce
from math import gcd
from typing import Final, Generic, Protocol, TypeVar

_LONGEST_CYCLE: Final = 4096  # turns; a longer one is not written down but computed turn by turn


class Candidate(Protocol):
    """What a policy needs to know of a backend."""

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

    def choose(self, tried: Collection[C]) -> C | None:
        """The one that takes the next request; None when all that there are have been tried already."""
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

    def choose(self, tried: Collection[C]) -> C | None:
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

    def choose(self, tried: Collection[C]) -> C | None:
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


POLICIES: Final[dict[str, Callable[[], "Policy[Candidate]"]]] = {
    "weighted-round-robin": SmoothRoundRobin,
    "least-connections": LeastConnections,
}
