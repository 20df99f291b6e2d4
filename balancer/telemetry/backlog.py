"""What waits for a thread that may block, so that nobody else does: bounded, put in by anybody, taken out a batch at a time."""

import threading
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

from balancer.telemetry.room import Room

T = TypeVar("T")


class Backlog(Generic[T]):
    """`put` may be called from any thread and never blocks; `room` is for tasks whose things must not be lost. Sizes are the caller's."""

    def __init__(self, name: str, limit: int, batch: int, work: Callable[[list[T]], None]) -> None:
        """name: of the thread, which begins with the first thing; limit: of all that waits; batch: about as much is taken at a time;
        work: what the thread does with it. It must not raise.
        """
        self.dropped = 0  # things that were not taken
        self._name = name
        self._limit = limit
        self._batch = batch
        self._work = work
        self._things: deque[tuple[T, int]] = deque()
        self._waiting = 0  # the size of _things
        self._closed = False
        self._changed = threading.Condition()
        self._room = Room(self._changed, lambda: self.is_crowded)
        self._thread: threading.Thread | None = None

    def put(self, thing: T, size: int) -> bool:
        """False: dropped, as it is full or closed."""
        with self._changed:
            if self._closed or self._waiting + size > self._limit:
                self.dropped += 1
                return False
            self._things.append((thing, size))
            self._waiting += size
            if self._thread is None:
                # A daemon: work that blocks for ever must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._changed.notify()
        return True

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits; the thread may still be busy with what it took last."""
        return not self._things

    @property
    def is_crowded(self) -> bool:
        """Whether it is more than half full."""
        return self._waiting > self._limit // 2

    async def room(self) -> None:
        """Wait while it is crowded, as long as the thread gets on."""
        await self._room.wait()

    def close(self, timeout: float) -> None:
        """Take no more, and wait until what is there has been worked on, for at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while things := self._take():
            self._work(things)

    def _take(self) -> list[T]:
        """The next things, waiting for some; none at the end."""
        with self._changed:
            while not self._things and not self._closed:
                self._changed.wait()
            taken: list[T] = []
            size = 0
            while self._things and size < self._batch:
                thing, its_size = self._things.popleft()
                taken.append(thing)
                size += its_size
            self._waiting -= size
            self._room.made()
            return taken
