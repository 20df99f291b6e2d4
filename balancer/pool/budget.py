"""How many retries are affordable: a share of the requests, so that retries never become the outage (Finagle's RetryBudget)."""

from typing import Final

FLOOR: Final = 10.0  # retries a second that are always allowed: a pool with little traffic must be able to retry too
SAVED: Final = 10.0  # seconds' worth of the floor, and the most that is saved up from requests in multiples of it


class RetryBudget:
    """One pool's, in one proxy. Each request pays in a share of a retry; each retry takes a whole one out."""

    __slots__ = ("_balance", "_since", "share")

    def __init__(self, share: float, now: float) -> None:
        self.share = share
        self._balance = FLOOR
        self._since = now

    def deposit(self) -> None:
        """A request has come."""
        self._balance += self.share

    def withdraw(self, now: float) -> bool:
        """Whether a retry is affordable at this time (CLOCK_MONOTONIC seconds); then it is paid."""
        self._balance = min(self._balance + (now - self._since) * FLOOR, FLOOR * SAVED)
        self._since = now
        if self._balance < 1:
            return False
        self._balance -= 1
        return True
