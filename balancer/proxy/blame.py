"""Which request kills backends: what was in flight when one ended by its own doing, and who is acquitted since (FIELD F5)."""

from typing import Final, NamedTuple

MOST: Final = 1024  # fingerprints remembered; the oldest goes


class Exit(NamedTuple):
    """The end of a backend process, as the supervisor saw it."""

    at: float  # CLOCK_MONOTONIC seconds
    is_own_doing: bool  # neither wanted nor a signal from outside: it crashed
    casualties: int  # requests that this proxy had on it


class Blame:
    """Counts by fingerprint, "METHOD /path". A request of that kind that succeeds clears it."""

    def __init__(self) -> None:
        self.counts: dict[bytes, int] = {}

    def accuse(self, fingerprints: set[bytes]) -> None:
        """These were in flight when a backend crashed."""
        for fingerprint in fingerprints:
            self.counts[fingerprint] = self.counts.pop(fingerprint, 0) + 1
        while len(self.counts) > MOST:
            del self.counts[next(iter(self.counts))]

    def acquit(self, fingerprint: bytes) -> None:
        """One of this kind has been answered."""
        self.counts.pop(fingerprint, None)

    def may_try_again(self, fingerprint: bytes, casualties: int) -> bool:
        """Whether a request that was in flight at a crash may be given to another backend.

        Not if it was alone: then it is the one. Not if its kind had been there at a crash before: then it is likely. So one request
        does not kill one backend after another.
        """
        return casualties > 1 and self.counts.get(fingerprint, 0) <= 1
