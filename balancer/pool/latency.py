"""How long a backend takes, as one number that forgets: a peak-sensitive, exponentially weighted moving average.

A slower answer than expected counts at once, faster ones only by and by (Finagle's Peak EWMA). While a backend is not asked, its
estimate drifts to that of its peers, so that one that was slow is tried again.
"""

from math import exp
from typing import Final

DECAY: Final = 10.0  # seconds in which an old estimate loses 63 % of its say; linkerd's default


class Latency:
    """The estimate for one backend. All times are seconds on one clock."""

    __slots__ = ("_seconds", "_stamp")

    def __init__(self) -> None:
        self._seconds = 0.0
        self._stamp = 0.0

    def observe(self, seconds: float, now: float) -> None:
        """An answer took so long."""
        if seconds >= self._seconds or not self._stamp:
            self._seconds = seconds
        else:
            keep = exp((self._stamp - now) / DECAY)
            # At least a tenth of the way: under heavy traffic the time between two answers is next to nothing.
            keep = min(keep, 0.9)
            self._seconds = self._seconds * keep + seconds * (1 - keep)
        self._stamp = now

    def penalise(self, seconds: float, now: float) -> None:
        """It failed: that counts as an answer that took `seconds`, however fast the failure was."""
        self.observe(max(seconds, self._seconds), now)

    def estimate(self, now: float, peers: float) -> float:
        """Expected seconds of the next answer; `peers`: the median of the pool, which a silent backend drifts to."""
        if not self._stamp:
            return peers
        return peers + (self._seconds - peers) * exp((self._stamp - now) / DECAY)
