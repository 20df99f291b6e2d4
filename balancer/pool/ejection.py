"""When traffic itself says that a backend is in trouble: who is taken out of rotation, and for how long. Pure.

Two ways in: so many failures in a row, which a proxy sees, or a success rate that falls behind the pool's over an exact window
of one-second counts (exact ratios can be explained and tested, decayed ones cannot). Never more than a share of the pool.
"""

from collections import deque
from dataclasses import dataclass
from typing import Final

LONGEST: Final = 300.0  # seconds; Envoy's max_ejection_time
FORGET_AFTER: Final = 10.0  # times the base time without an ejection, and the next one is a first one again
WINDOW: Final = 10  # seconds over which success rates are compared
FEWEST_REQUESTS: Final = 20  # of a backend in a window; fewer say nothing


def may_eject(size: int, ejected: int, share: float) -> bool:
    """Whether one more of a pool of `size` may go when `ejected` are out already and at most `share` (0 to 1) may be."""
    # The sum is rounded because 0.1 * 10 must be 1 for everybody.
    return ejected + 1 <= int(size * share + 1e-9)


def needs_all(size: int, taking: int, panic: float) -> bool:
    """Whether so few take requests that ejected ones are better than none; `panic`: share of the pool, 0 to 1."""
    return size > 0 and taking < size * panic


@dataclass(slots=True)
class Sentence:
    """One backend's ejections. Times are CLOCK_MONOTONIC seconds."""

    times: int = 0  # in a row
    until: float = 0.0
    last: float = 0.0

    def begin(self, now: float, base: float) -> float:
        """Eject it now; for how many seconds: `base`, twice that the second time, three times the third (Envoy's way)."""
        if self.until and now - self.until > base * FORGET_AFTER:
            self.times = 0
        self.times += 1
        seconds = min(base * self.times, max(LONGEST, base))
        self.until = now + seconds
        return seconds


class Window:
    """Requests and failures of one backend over the last `WINDOW` seconds, from totals that are read once a second."""

    def __init__(self) -> None:
        self._totals: deque[tuple[int, int]] = deque(maxlen=WINDOW + 1)

    def add(self, requests: int, failures: int) -> None:
        """The totals as they are now."""
        self._totals.append((requests, failures))

    def clear(self) -> None:
        """Begin anew: what was before an ejection is not held against it afterwards."""
        self._totals.clear()

    @property
    def counts(self) -> tuple[int, int]:
        """(requests, failures) within the window."""
        if len(self._totals) < 2:
            return 0, 0
        (first_requests, first_failures), (requests, failures) = self._totals[0], self._totals[-1]
        return requests - first_requests, failures - first_failures


def laggards(windows: dict[str, tuple[int, int]], margin: float) -> list[tuple[str, float, float]]:
    """Backends whose success rate is lower than that of all others together by more than `margin` (0 to 1), worst first.

    windows: name → (requests, failures). Gives (name, its rate, the others' rate). A fault that all share ejects nobody.
    """
    found = []
    for name, (requests, failures) in windows.items():
        others = [counts for other, counts in windows.items() if other != name]
        other_requests = sum(r for r, _ in others)
        other_failures = sum(f for _, f in others)
        if requests < FEWEST_REQUESTS or other_requests < FEWEST_REQUESTS:
            continue
        rate = 1 - failures / requests
        other_rate = 1 - other_failures / other_requests
        if rate < other_rate - margin:
            found.append((name, rate, other_rate))
    return sorted(found, key=lambda item: item[1])
