"""The last things of a kind, numbered, and tasks that follow them. Writers never wait; a slow follower misses some and is told.

A follower holds only its place: there is no queue per follower that could grow, and none that could be full.
"""

from collections import deque
from collections.abc import AsyncIterator
from typing import Generic, TypeVar

import trio

Item = TypeVar("Item")


class Ring(Generic[Item]):
    """Keeps the last `size` items. Numbers count from 0 and are never given twice."""

    def __init__(self, size: int) -> None:
        self._items: deque[Item] = deque(maxlen=size)
        self._lot = trio.lowlevel.ParkingLot()
        self.next = 0  # the number that the next item gets

    def append(self, item: Item) -> int:
        """Add one, wake the followers; its number."""
        number = self.next
        self._items.append(item)
        self.next = number + 1
        if self._lot:
            self._lot.unpark_all()
        return number

    def last(self, count: int) -> list[Item]:
        """At most so many of the newest, oldest first."""
        return list(self._items)[-count:] if count > 0 else []

    async def follow(self, start: int) -> AsyncIterator[tuple[int, list[Item]]]:
        """From item number `start` on, for ever: (how many were missed before these, the items), never an empty list."""
        while True:
            while start >= self.next:
                await self._lot.park()
            oldest = self.next - len(self._items)
            missed = max(0, oldest - start)
            items = list(self._items)[max(0, start - oldest) :]
            start = self.next
            yield missed, items
