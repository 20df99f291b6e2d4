"""Where those who produce lines wait for the thread that writes them, if what it writes to cannot stall for long: a regular file.

A terminal or a pipe may not be read for hours, so what comes too fast for them is dropped; a file takes what it gets, and losing
lines there would be for the sake of milliseconds.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import trio

PATIENCE: Final = (
    2.0  # seconds without anything written: this file does stall (a network file system, a disk that dies)
)


class Room:
    """One queue's. `wait` is for tasks, `made` for the thread."""

    def __init__(self, lock: AbstractContextManager[Any], is_crowded: Callable[[], bool]) -> None:
        """lock: the queue's; is_crowded: whether producers should wait."""
        self._lock = lock
        self._is_crowded = is_crowded
        self._waiting: list[tuple[Any, trio.Event]] = []  # with the token of the loop in which each waits
        self._has_stalled = False

    async def wait(self) -> None:
        """Until there is room; not at all once nothing was written for `PATIENCE` seconds, until something is again."""
        while self._is_crowded() and not self._has_stalled:
            await self._wait_once()

    async def _wait_once(self) -> None:
        import trio  # the command line uses parts of the console, and has no loop

        made = trio.Event()
        with self._lock:
            if not self._is_crowded():
                return
            self._waiting.append((trio.lowlevel.current_trio_token(), made))
        with trio.move_on_after(PATIENCE):
            await made.wait()
        self._has_stalled = not made.is_set()

    def made(self) -> None:
        """Something was taken from the queue. Under its lock."""
        self._has_stalled = False
        if self._waiting and not self._is_crowded():
            import trio

            for token, made in self._waiting:
                try:
                    token.run_sync_soon(made.set)
                except trio.RunFinishedError:
                    pass  # nobody waits there any more
            self._waiting.clear()
