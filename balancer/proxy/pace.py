"""Work that a peer can make for nothing gets a share of the loop, however many peers make it.

A body of one-byte chunks costs a microsecond and a half a byte, and a pipelined request a hundred and is not waited for: a few
hundred peers that send such things as fast as they can would stand before everybody else in each turn of the loop. Here they
stand in a line of their own, which moves no faster than that share allows. Who is alone in it and slower than the line never
waits.
"""

from time import monotonic
from typing import Final

import trio

_SHARE: Final = 0.4  # of the loop's time
CHUNKS: Final = 400e-6 / _SHARE  # seconds of the line for `chunked.AT_ONCE` chunks
PIPELINED: Final = 80e-6 / _SHARE  # for a request that had come before its predecessor's answer had gone


_LATE: Final = 0.01  # seconds; a loop that comes back to us later than this has too much to do
_SLOWEST: Final = 8.0  # five hundred in line wait four seconds at most, which a stop has to wait too


class Pace:
    """The line of one proxy process."""

    __slots__ = ("_free_at", "_stretch")

    def __init__(self) -> None:
        self._free_at = 0.0  # CLOCK_MONOTONIC seconds: when who joins now would have its turn
        self._stretch = 1.0  # turns take so many times as long as they should: what they cost depends on the machine

    async def turn(self, seconds: float) -> None:
        """Wait for a turn, which takes up `seconds` of the line; other tasks run at least once meanwhile."""
        now = monotonic()
        start = max(now, self._free_at)
        self._free_at = start + seconds * self._stretch
        if start > now:
            await trio.sleep(start - now)
            is_late = monotonic() - start > _LATE
            self._stretch = min(_SLOWEST, self._stretch * 1.05) if is_late else max(1.0, self._stretch * 0.98)
        else:
            await trio.lowlevel.checkpoint()
