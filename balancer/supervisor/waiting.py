"""Waiting for one of several things, and for "something changed"; trio has neither."""

from collections.abc import Awaitable, Callable

import trio


class Changes:
    """Wakes everybody who waits, each time something changed; who waits then looks for itself."""

    def __init__(self) -> None:
        self._event = trio.Event()

    def fire(self) -> None:
        """Something changed."""
        event, self._event = self._event, trio.Event()
        event.set()

    async def wait(self) -> None:
        """Until the next change. Look at the state before, without a checkpoint between."""
        await self._event.wait()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until `holds()` after some change, or at once."""
        while not holds():
            await self._event.wait()


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Until the first of these has come; the others are cancelled."""
    async with trio.open_nursery() as nursery:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            nursery.cancel_scope.cancel()

        for wait in waits:
            nursery.start_soon(run, wait)
