"""Which request kills backends: what was in flight when one ended by its own doing, and who is acquitted since (FIELD F5).

What kills a process most often does so soon after it was sent: of the requests that were in flight at a crash, the one sent last, and
those sent hardly earlier, are accused, while older ones were merely present.
"""

from collections.abc import Iterable
from typing import Final, NamedTuple

MOST: Final = 1024  # fingerprints remembered; the oldest goes
LATELY: Final = 0.05  # seconds: what was sent so shortly before the last one is as suspect
MOST_ACCUSED: Final = 1  # crashes; accused more often, it is not sent again
MOST_PRESENT: Final = 2


class Exit(NamedTuple):
    """The end of a backend process, as the supervisor saw it."""

    at: float  # CLOCK_MONOTONIC seconds
    is_own_doing: bool  # neither wanted nor a signal from outside: it crashed
    casualties: int  # requests that were on it


class Blame:
    """Counts by fingerprint, "METHOD /path". A request of that kind that succeeds clears it."""

    __slots__ = ("counts", "present")

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}  # crashes at which it is accused
        self.present: dict[bytes, int] = {}  # crashes at which it was in flight at all

    def crash(self, sent: Iterable[tuple[bytes, float]]) -> None:
        """A backend crashed with these on it: (fingerprint, when it was sent, CLOCK_MONOTONIC seconds)."""
        sent = list(sent)
        newest = max((at for _, at in sent), default=0.0)
        for fingerprint in {fingerprint for fingerprint, at in sent if at >= newest - LATELY}:
            self.counts[fingerprint] = self.counts.pop(fingerprint, 0) + 1
        for fingerprint in {fingerprint for fingerprint, _ in sent}:
            self.present[fingerprint] = self.present.pop(fingerprint, 0) + 1
        while len(self.present) > MOST:
            oldest = next(iter(self.present))
            del self.present[oldest]
            self.counts.pop(oldest, None)

    def acquit(self, fingerprint: bytes) -> int:
        """One of this kind has been answered; at how many crashes it had been present since the last time."""
        self.counts.pop(fingerprint, None)
        return self.present.pop(fingerprint, 0)

    def may_try_again(self, fingerprint: bytes, casualties: int) -> bool:
        """Whether a request that was in flight at a crash may be given to another backend.

        Not if it was alone: then it is the one. Not if its kind had been accused at a crash before, or present at two: then it is likely.
        So one request does not kill one backend after another.
        """
        return (
            casualties > 1
            and self.counts.get(fingerprint, 0) <= MOST_ACCUSED
            and self.present.get(fingerprint, 0) <= MOST_PRESENT
        )
