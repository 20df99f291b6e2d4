"""For development: a file under `restart.watch` changes, and a rolling restart of the pool follows."""

import os
from collections.abc import Callable, Collection, Mapping
from typing import Final

import trio

from balancer.errors import BalancerError
from balancer.supervisor.truth import Truth
from balancer.telemetry.events import Events

QUIET: Final = 0.2  # seconds without a further change: an editor or a formatter touches several files
LONGEST: Final = 2.0  # seconds of changes without a pause until a restart begins all the same
RETRY: Final = 2.0  # seconds until a path that is not there is looked for again
_NAMED: Final = 3  # files in an event


class Watches:
    """One watcher per pool that has paths to watch; follows the settings."""

    def __init__(self, truth: Truth, events: Events, restart: Callable[[str], object]) -> None:
        """restart: begins a rolling restart of a pool; one in progress is taken over from."""
        self._truth = truth
        self._events = events
        self._restart = restart

    async def run(self) -> None:
        """For ever."""
        while True:
            watched = self._wanted()
            async with trio.open_nursery() as nursery:
                for pool, paths in watched.items():
                    nursery.start_soon(self._watch, pool, paths, name=f"watch {pool}")
                await self._truth.changes.until(lambda watched=watched: self._wanted() != watched)  # type: ignore[misc]
                nursery.cancel_scope.cancel()

    def _wanted(self) -> Mapping[str, tuple[str, ...]]:
        return {name: pool.restart.watch for name, pool in self._truth.settings.pool.items() if pool.restart.watch}

    async def _watch(self, pool: str, paths: Collection[str]) -> None:
        said = ""
        while True:
            why = f"{missing} is not there" if (missing := _missing(paths)) else ""
            try:
                if not why:
                    await self._restart_at_changes(pool, paths)
            except OSError as error:
                why = error.strerror or str(error)
            if why != said:
                self._events.record("watch failed", pool, reason=why)
                said = why
            await trio.sleep(RETRY)  # for the path to come: what does not exist cannot be waited for

    async def _restart_at_changes(self, pool: str, paths: Collection[str]) -> None:
        from watchfiles import awatch  # only for who uses it: a start should be quick

        changes = awatch(
            *paths,
            step=int(QUIET * 1000),
            debounce=int(LONGEST * 1000),
            rust_timeout=1000,
            ignore_permission_denied=True,
        )
        async for found in changes:
            files = sorted({path for _, path in found})
            more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
            self._events.record("changed", pool, files=", ".join(files[:_NAMED]) + more)
            try:
                self._restart(pool)
            except BalancerError as error:
                self._events.record("watch failed", pool, reason=str(error))


def _missing(paths: Collection[str]) -> str:
    return ", ".join(path for path in paths if not os.path.exists(path))
