"""A ring of points, of which each candidate has some: with a key on it, whose point comes next is found by bisection."""

from bisect import bisect_left
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final, Generic, Protocol, TypeVar

POINTS: Final = 100  # at most, of one candidate: shares within some 10 % of even
_FEW: Final = 8  # moving a point costs 2 (4 candidates) to 10 times (500) as much as sorting it with all the others


class Named(Protocol):
    """What a ring needs to know of a candidate."""

    @property
    def name(self) -> str:
        """By which its points are found."""
        ...


N = TypeVar("N", bound=Named)


class Ring(Generic[N]):
    """`points` in order, and `owners` beside them. Of several candidates of one name, the last one offered comes first at each point.

    What was on it stays: a change costs what differs, as weights that rise change a point here and there many times a second.
    """

    def __init__(self) -> None:
        self.points: list[int] = []
        self.owners: list[N] = []
        self._counts: dict[int, tuple[N, int]] = {}  # by id()
        self._known: dict[str, list[int]] = {}  # all the points of a name

    def offer(self, candidates: Sequence[N], counts: Sequence[int]) -> None:
        """Give each of these so many points, at most POINTS, and nobody else any."""
        before, known = self._counts, self._known
        self._counts = now = {id(c): (c, count) for c, count in zip(candidates, counts, strict=True)}
        self._known = {c.name: known.get(c.name) or _points_of(c.name) for c in candidates}
        fewer = [(c, count, now[key][1] if key in now else 0) for key, (c, count) in before.items()]
        more = [(c, before[key][1] if key in before else 0, count) for key, (c, count) in now.items()]
        moved = sum(max(0, new - old) for _, old, new in more) + sum(max(0, old - new) for _, old, new in fewer)
        # With two of one name it matters who was offered last: that only sorting knows.
        if moved * _FEW > sum(counts) or len(self._known) < len(candidates):
            self._sort(candidates, counts)
            return
        for candidate, old, new in fewer:
            for point in known[candidate.name][new:old]:
                self._remove(point, candidate)
        for candidate, old, new in more:
            for point in self._known[candidate.name][old:new]:
                at = bisect_left(self.points, point)
                self.points.insert(at, point)
                self.owners.insert(at, candidate)

    def _remove(self, point: int, owner: N) -> None:
        at = bisect_left(self.points, point)
        while self.owners[at] is not owner:  # another of its name, that was there too
            at += 1
        del self.points[at], self.owners[at]

    def _sort(self, candidates: Sequence[N], counts: Sequence[int]) -> None:
        ring: list[tuple[int, int]] = []
        for index, (candidate, count) in enumerate(zip(candidates, counts, strict=True)):
            ring += [(point, -index) for point in self._known[candidate.name][:count]]
        ring.sort()
        self.points = [point for point, _ in ring]
        self.owners = [candidates[-index] for _, index in ring]


def place(key: bytes) -> int:
    """Where on the ring it is."""
    return int.from_bytes(blake2b(key, digest_size=8).digest(), "big")


def _points_of(name: str) -> list[int]:
    return [place(b"%s %d" % (name.encode(), turn)) for turn in range(POINTS)]
