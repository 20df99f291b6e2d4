"""How many connections the admin API has, and who makes room when there are too many."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import trio

GRACE = 0.25  # seconds in which nobody is sent away: what a client has just sent shall be read first


class Crowd:
    """At most `limit` at once. A connection that we wait for (idle, or slow with its request) can be sent away for a newcomer."""

    def __init__(self, limit: int) -> None:
        self.count = 0
        self._limit = limit
        self._waited_for: dict[trio.CancelScope, float] = {}  # since when; longest first
        self._changed = trio.lowlevel.ParkingLot()

    async def room(self) -> None:
        """Until one more may come. Who we wait for longest is cancelled; those that are being answered are not."""
        while self.count >= self._limit:
            with trio.move_on_at(self._send_away()):
                await self._changed.park()

    def enter(self) -> None:
        """One more."""
        self.count += 1

    def leave(self) -> None:
        """One less."""
        self.count -= 1
        self._changed.unpark_all()

    @contextmanager
    def waiting(self, seconds: float) -> Iterator[trio.CancelScope]:
        """We wait for this client, at most so long; the scope is cancelled when its time is up or its place is needed."""
        scope = trio.CancelScope(deadline=trio.current_time() + seconds)
        self._waited_for[scope] = trio.current_time()
        self._changed.unpark_all()
        try:
            with scope:
                yield scope
        finally:
            self._waited_for.pop(scope, None)

    def _send_away(self) -> float:
        """Cancel who we wait for longest, or give the time when that may be done."""
        for scope, since in self._waited_for.items():
            if since + GRACE > trio.current_time():
                return since + GRACE
            del self._waited_for[scope]
            scope.cancel()
            break
        return math.inf
