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


class Pace:
    """The line of one proxy process."""

    __slots__ = ("_free_at",)

    def __init__(self) -> None:
        self._free_at = 0.0  # CLOCK_MONOTONIC seconds: when who joins now would have its turn

    async def turn(self, seconds: float) -> None:
        """Wait for a turn, which takes up `seconds` of the line; other tasks run at least once meanwhile."""
        now = monotonic()
        start = max(now, self._free_at)
        self._free_at = start + seconds
        if start > now:
            await trio.sleep(start - now)
        else:
            await trio.lowlevel.checkpoint()
