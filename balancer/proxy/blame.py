"""Which request kills backends: what was in flight when one ended by its own doing, and who is acquitted since.

What kills a process most often does so soon after it was sent: of the requests that were in flight at a crash, the one sent last, and
those sent hardly earlier, are accused, while older ones were merely present. Those that are accused together are sent again one kind
after another, so that a second crash tells them apart.
"""

from collections.abc import Iterable, Mapping
from operator import itemgetter
from typing import Final, NamedTuple
from zlib import crc32

MOST: Final = 1024  # fingerprints remembered; the oldest goes
LATELY: Final = 0.01  # seconds: what was sent so shortly before the last one is as suspect
APART: Final = 0.02  # seconds between two kinds that are sent again
LONGEST_DELAY: Final = 0.2
PLACES: Final = 8
MOST_ACCUSED: Final = 1  # crashes; accused more often, it is not sent again
MOST_PRESENT: Final = 2


class Exit(NamedTuple):
    """The end of a backend process, as the supervisor saw it."""

    at: float  # CLOCK_MONOTONIC seconds
    is_own_doing: bool  # neither wanted nor a signal from outside: it crashed
    casualties: int  # requests that were on it
    delays: Mapping[bytes, float]  # seconds that requests of this kind wait before they are sent again


class Blame:
    """Counts by fingerprint, "METHOD /path". A request of that kind that succeeds clears it."""

    __slots__ = ("counts", "present")

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}  # crashes at which it is accused
        self.present: dict[bytes, int] = {}  # crashes at which it was in flight at all

    def crash(self, sent: Iterable[tuple[bytes, float]], at: float = 0.0, in_flight: int = 0) -> dict[bytes, float]:
        """A backend crashed with these on it: (fingerprint, when it was sent, CLOCK_MONOTONIC seconds).

        at: when; in_flight: how many requests of all proxies were on it. With those of other proxies beside ours the last of ours need
        not be the last of all: then only what was sent just before the crash is accused. Returns how many seconds requests of each kind
        shall wait before they are sent again; none, if not named.
        """
        sent = sorted(sent, key=itemgetter(1))
        are_all = len(sent) >= in_flight
        since = (sent[-1][1] if are_all else at) - LATELY if sent else 0.0
        # By when the last of each kind was sent.
        accused = dict.fromkeys(fingerprint for fingerprint, when in reversed(sent) if when >= since)
        for fingerprint in accused:
            self.counts[fingerprint] = self.counts.pop(fingerprint, 0) + 1
        for fingerprint in {fingerprint for fingerprint, _ in sent}:
            self.present[fingerprint] = self.present.pop(fingerprint, 0) + 1
        while len(self.present) > MOST:
            oldest = next(iter(self.present))
            del self.present[oldest]
            self.counts.pop(oldest, None)
        kinds = dict.fromkeys(fingerprint for fingerprint, _ in sent)
        places = {kind: place for place, kind in enumerate(reversed(accused))}
        if not are_all:
            # Without a word between the proxies, and yet apart: by what they are called.
            places = {kind: crc32(kind) % PLACES for kind in kinds}
        return {kind: min(place * APART, LONGEST_DELAY) for kind, place in places.items() if place}

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
