"""Whether a new release does worse than the old one over the same window of traffic. Pure.

Exact counts of both, never an absolute threshold: what both suffer from (a database that is down) is nobody's regression. And a
difference that is no greater than chance makes anyhow is none, or a small sample of a shared trouble would blame the release.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import sqrt
from typing import Final

# How many standard errors a difference in error rates must be beyond zero. When both do equally badly, SURE blames the new one
# falsely about once in 40 times at worst; EARLY, which is asked again and again within a window, about once in 700 each.
SURE: Final = 2.0
EARLY: Final = 3.0
_EARLY_TIMES: Final = 2  # the same for response times: as many times slower, and as many times more requests
# Seconds that the mean must be longer too: twice as long as half a millisecond is what a cold cache makes.
LEAST_DELAY: Final = 0.003


class Verdict(StrEnum):
    """What a comparison says of the new release."""

    WORSE = "worse"
    GOOD = "as good"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Sample:
    """What some backends did in a window.

    requests: answered, with those that failed; errors: 5xx and broken responses; buckets: of the seconds to the response head,
    counts up to each bound and above the last, not cumulative (() is none); seconds: their sum.
    """

    requests: int = 0
    errors: int = 0
    buckets: tuple[int, ...] = ()
    seconds: float = 0.0

    def __add__(self, other: "Sample") -> "Sample":
        return self._with(other, 1)

    def __sub__(self, other: "Sample") -> "Sample":
        return self._with(other, -1)

    def _with(self, other: "Sample", sign: int) -> "Sample":
        zeros = (0,) * max(len(self.buckets), len(other.buckets))
        pairs = zip(self.buckets or zeros, other.buckets or zeros, strict=True)
        return Sample(
            self.requests + sign * other.requests,
            self.errors + sign * other.errors,
            tuple(a + sign * b for a, b in pairs),
            self.seconds + sign * other.seconds,
        )

    def waiting(self, ages: Sequence[float], bounds: Sequence[float]) -> "Sample":
        """With requests that have no answer yet, as answered after the seconds that they have waited so far: at least that."""
        counts = [0] * (len(bounds) + 1)
        for age in ages:
            counts[bisect_left(bounds, age)] += 1
        return self + Sample(len(ages), 0, tuple(counts), sum(ages))

    @property
    def error_rate(self) -> float:
        """0 to 1."""
        return self.errors / self.requests if self.requests else 0.0

    @property
    def mean(self) -> float:
        """Seconds to the response head."""
        return self.seconds / sum(self.buckets) if sum(self.buckets) else 0.0

    def percentile(self, share: float, bounds: Sequence[float]) -> float:
        """Seconds within which this share (0 to 1) had its response head; within a bucket taken as evenly spread."""
        rank = share * sum(self.buckets)
        below = 0
        for index, count in enumerate(self.buckets):
            if count and below + count >= rank:
                start = bounds[index - 1] if index else 0.0
                end = bounds[index] if index < len(bounds) else 2 * bounds[-1]
                return start + (end - start) * (rank - below) / count
            below += count
        return 0.0


@dataclass(frozen=True, slots=True)
class Margins:
    """By how much a new release may do worse. fewest: requests on either side below which nothing can be said."""

    error_rate: float = 0.05
    slowdown: float = 1.0
    fewest: int = 20


def compare(
    new: Sample, old: Sample, margins: Margins, bounds: Sequence[float], certainty: float = SURE
) -> tuple[Verdict, str]:
    """The verdict, and the numbers behind it for people: "14 of 90 requests failed, 0 of 910 on the old ones".

    bounds: of the buckets, in seconds; certainty: SURE or EARLY.
    """
    fewer, who = min((new.requests, "new"), (old.requests, "old"))
    if fewer < max(1, margins.fewest):
        return (
            Verdict.INCONCLUSIVE,
            f"{fewer} requests on the {who} ones, fewer than rollout.min_requests = {margins.fewest}",
        )
    errors = (
        f"{new.errors} of {new.requests} requests failed ({new.error_rate:.1%}), "
        f"{old.errors} of {old.requests} ({old.error_rate:.1%}) on the old ones"
    )
    difference = new.error_rate - old.error_rate
    # Also rounded: 0.15 - 0.1 must not be more than 0.05.
    if round(difference - margins.error_rate, 9) > 0 and difference > certainty * _standard_error(new, old):
        return Verdict.WORSE, errors
    times = (
        f"responses took {_shown(new.mean)} on the mean and {_shown(new.percentile(0.95, bounds))} at the 95th percentile, "
        f"{_shown(old.mean)} and {_shown(old.percentile(0.95, bounds))} on the old ones"
    )
    # A process that has just begun is slow at first: before the window is over, only what is far too slow counts.
    times_over = 1 if certainty <= SURE else _EARLY_TIMES
    limit = (1 + margins.slowdown) * times_over
    if min(sum(new.buckets), sum(old.buckets)) >= margins.fewest * times_over and _is_slower(new, old, limit, bounds):
        return Verdict.WORSE, times
    return Verdict.GOOD, f"{errors}; {times}"


def _standard_error(new: Sample, old: Sample) -> float:
    """Of the difference of two shares if both were the same share: the pooled two-proportion z-test."""
    share = (new.errors + old.errors) / (new.requests + old.requests)
    return sqrt(share * (1 - share) * (1 / new.requests + 1 / old.requests))


def _is_slower(new: Sample, old: Sample, limit: float, bounds: Sequence[float]) -> bool:
    # Both: a single request of a minute moves the mean, a bucket's border the percentile.
    return (
        new.mean > old.mean * limit
        and new.mean - old.mean > LEAST_DELAY
        and new.percentile(0.95, bounds) > old.percentile(0.95, bounds) * limit
    )


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
