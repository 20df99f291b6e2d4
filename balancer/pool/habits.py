"""What a backend does with idle connections, learned from what it says and from what it did.

A request that must not run twice is lost when it meets a closing connection. So it gets one only while the backend has no reason to
close it yet.
"""

import re
from math import inf
from typing import Final

SAFE: Final = 0.5  # seconds idle that any backend allows until it has shown otherwise; the usual defaults are 2 to 75
_MARGIN: Final = 1.0  # seconds; what a backend announces is counted from when it answered, and cut to whole seconds
_SHARE: Final = 0.125  # the same as a share of how long we keep a connection ourselves, where that is short
_HALF: Final = 0.5  # of what a backend has said or done: its clock started before ours, and it may have been lucky
_FORGET: Final = 300.0  # seconds; one early end, of a restart perhaps, does not count for ever
_TIMEOUT: Final = re.compile(rb"(?i)(?:^|[,;\s])timeout\s*=\s*\"?([0-9]{1,6})").search


class Habits:
    """Of one backend process."""

    __slots__ = ("_noticed_at", "announced", "shortest")

    def __init__(self) -> None:
        self.announced = inf  # seconds, from `Keep-Alive: timeout=`
        self.shortest = inf  # seconds of idleness after which it closed a connection, the least of late
        self._noticed_at = -inf

    def hear(self, values: list[bytes]) -> None:
        """Take over what the values of its Keep-Alive field say."""
        found = _TIMEOUT(b", ".join(values))
        if found is not None:
            self.announced = float(found[1])

    def notice(self, seconds: float, now: float) -> None:
        """It has closed a connection that was idle for so long."""
        if seconds < self.shortest or now - self._noticed_at > _FORGET:
            self.shortest = seconds
            self._noticed_at = now

    def safe_for(self, keep_alive_timeout: float) -> float:
        """Seconds of idleness up to which a connection is surely not being closed."""
        return min(SAFE, _SHARE * keep_alive_timeout, _HALF * self.announced, _HALF * self.shortest)

    def kept_for(self, keep_alive_timeout: float) -> float:
        """Seconds after which we close an idle connection: before the backend does, as far as it has said when."""
        return min(keep_alive_timeout, max(self.announced - _MARGIN, _HALF * self.announced))
