"""The line in front of a pool: requests that wait while no backend can take them but one is expected to."""

from collections import deque
from typing import Any

import outcome
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from balancer.errors import Fault


class Place:
    """One request's place in the line. Its wait ends with `call`, or with the fault of an interruption."""

    __slots__ = ("_fault", "_is_called", "_task", "deadline")

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline  # CLOCK_MONOTONIC seconds; `proxy/sweep` looks at it
        self._task: Task | None = None
        self._is_called = False
        self._fault: Fault | None = None

    async def wait(self) -> None:
        """Until called. Raises the Fault of an interruption: the client left, the time is over, the pool will not recover."""
        if self._fault is not None:
            raise self._fault
        if not self._is_called:
            self._task = current_task()
            await wait_task_rescheduled(self._abort)

    def call(self) -> None:
        """It is this one's turn to try again."""
        self._is_called = True
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def interrupt(self, fault: Fault) -> None:
        """End the wait by raising `fault`."""
        self._fault = fault
        task, self._task = self._task, None
        if task is not None:
            reschedule(task, outcome.Error(fault))

    def _abort(self, _: Any) -> Abort:
        self._task = None
        return Abort.SUCCEEDED


class Queue:
    """Places in the order in which they came."""

    def __init__(self) -> None:
        self._places: deque[Place] = deque()

    def __len__(self) -> int:
        return len(self._places)

    def join(self, deadline: float) -> Place:
        """A place at the end of the line."""
        place = Place(deadline)
        self._places.append(place)
        return place

    def leave(self, place: Place) -> None:
        """Give the place up, called or not."""
        try:
            self._places.remove(place)
        except ValueError:
            pass

    def call_all(self) -> None:
        """Backends take requests again: everybody tries, first come first."""
        for place in list(self._places):
            place.call()

    def interrupt(self, fault: Fault, before: float | None = None) -> None:
        """End the wait of everybody, or of those whose deadline is before that time."""
        for place in list(self._places):
            if before is None or place.deadline < before:
                place.interrupt(fault)
