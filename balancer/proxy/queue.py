"""The line in front of a pool: requests that wait while no backend can take them but one is expected to.

There is one line per pool over all proxy processes, a ring of tickets in the shared table. Whoever frees a place on a backend, in
whichever process, gives it to the ticket at the head, by counting it for that ticket's proxy and writing it a *grant* down a
pipe. So a pool with `concurrency` never has more in flight on a backend than that, nobody jumps the line, and what a dead proxy
held is free as soon as the supervisor has cleared its gauges.
"""

import os
import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import outcome
import trio
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from balancer.errors import Fault
from balancer.telemetry.table import LINE_HEAD, LINE_PLACES, LINE_RING, LINE_TAIL, QUEUE_LENGTH, Table

_GRANT: Final = struct.Struct(
    "qii"
)  # ticket, pool row, backend row: far below PIPE_BUF, so written whole or not at all
_PROXY_BITS: Final = 8  # of a ticket: which proxy slot waits
MAX_PROXIES: Final = 1 << _PROXY_BITS


class Place:
    """One request's place in the line. Its wait ends with `call`, or with the fault of an interruption."""

    __slots__ = ("_fault", "_is_called", "_task", "deadline", "granted", "position", "ticket")

    def __init__(self, ticket: int, deadline: float) -> None:
        self.ticket = ticket
        self.deadline = deadline  # CLOCK_MONOTONIC seconds; `proxy/sweep` looks at it
        self.position = -1  # in the shared ring; -1: not in it
        self.granted = -1  # the row of a backend that is counted for this request already
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

    def call(self, granted: int = -1) -> None:
        """It is this one's turn: to try again, or with a place on a backend."""
        self._is_called = True
        self.granted = granted
        task, self._task = self._task, None
        if task is not None:
            reschedule(task)

    def interrupt(self, fault: Fault) -> None:
        """End the wait by raising `fault`."""
        if self._is_called:
            return  # too late: it has a turn, and what it was given must not get lost
        self._fault = fault
        task, self._task = self._task, None
        if task is not None:
            reschedule(task, outcome.Error(fault))

    def _abort(self, _: Any) -> Abort:
        self._task = None
        return Abort.SUCCEEDED


class Grants:
    """The pipes down which places are given: one per proxy slot; everybody writes, its proxy reads."""

    def __init__(self, proxy: int, read_end: int, write_ends: list[int]) -> None:
        self._proxy = proxy
        self._read_end = read_end
        self._write_ends = write_ends
        # A ticket must not be one that this slot's late predecessor has drawn.
        self._next = monotonic_ns()
        self.take: dict[int, Callable[[int, int], None]] = {}  # pool row -> what to do with (ticket, backend row)

    @classmethod
    def alone(cls, proxy: int) -> "Grants":
        """For a proxy that has no others beside it."""
        read_end, write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        return cls(proxy, read_end, [write_end] * (proxy + 1))

    def draw(self) -> int:
        """A new ticket, unique over all proxies."""
        self._next += 1
        return self._next << _PROXY_BITS | self._proxy

    def give(self, ticket: int, pool: int, backend: int) -> bool:
        """Give the holder of a ticket a place; False if its pipe is full."""
        try:
            os.write(self._write_ends[ticket & (MAX_PROXIES - 1)], _GRANT.pack(ticket, pool, backend))
        except BlockingIOError:
            return False
        return True

    async def run(self) -> None:
        """Take what is given to this proxy, forever."""
        while True:
            await trio.lowlevel.wait_readable(self._read_end)
            self.receive()

    def receive(self) -> None:
        """Take what has been given up to now."""
        try:
            data = os.read(self._read_end, _GRANT.size * 256)
        except BlockingIOError:
            return
        for ticket, pool, backend in _GRANT.iter_unpack(data):
            take = self.take.get(pool)
            if take is not None:
                take(ticket, backend)

    def close(self) -> None:
        """Close the ends of all pipes that this process holds."""
        for fd in {self._read_end, *self._write_ends}:
            os.close(fd)


class Queue:
    """The line of one pool, as one proxy sees it. `places`: those that wait here, in the order in which they came."""

    def __init__(self, table: Table, proxy: int, row: int, grants: Grants) -> None:
        self.places: dict[int, Place] = {}
        self._cells = table.cells
        self._line = table.line_base(row)
        self._lengths = [table.pool_base(p, row) + QUEUE_LENGTH for p in range(table.proxies)]
        self._length = table.pool_base(proxy, row) + QUEUE_LENGTH
        self._grants = grants

    def __len__(self) -> int:
        """How many wait in all proxies."""
        cells = self._cells
        return sum(cells[offset] for offset in self._lengths)

    @property
    def is_empty(self) -> bool:
        """Whether nobody is in the shared line. Under `Table.locked`."""
        return self._trim() == self._cells[self._line + LINE_TAIL]

    @property
    def is_full(self) -> bool:
        """Whether the ring has no room. Under `Table.locked`."""
        return self._cells[self._line + LINE_TAIL] - self._cells[self._line + LINE_HEAD] >= LINE_PLACES

    def join(self, deadline: float, in_line: bool) -> Place:
        """A place at the end; `in_line`: of the shared line too. That under `Table.locked`, after `is_full` was asked."""
        place = Place(self._grants.draw(), deadline)
        self.places[place.ticket] = place
        self._cells[self._length] = len(self.places)
        if in_line:
            tail = self._cells[self._line + LINE_TAIL]
            place.position = tail
            self._cells[self._line + LINE_RING + tail % LINE_PLACES] = place.ticket
            self._cells[self._line + LINE_TAIL] = tail + 1
        return place

    def pop(self) -> int:
        """The ticket at the head of the shared line, 0 for none. Under `Table.locked`."""
        head = self._trim()
        if head == self._cells[self._line + LINE_TAIL]:
            return 0
        self._cells[self._line + LINE_HEAD] = head + 1
        return self._cells[self._line + LINE_RING + head % LINE_PLACES]

    def leave(self, place: Place) -> None:
        """Give the place up, called or not. Under `Table.locked` if it is in the shared line (`position`)."""
        self.places.pop(place.ticket, None)
        self._cells[self._length] = len(self.places)
        if place.position >= 0:
            cell = self._line + LINE_RING + place.position % LINE_PLACES
            if self._cells[cell] == place.ticket and place.position >= self._cells[self._line + LINE_HEAD]:
                self._cells[cell] = 0
                self._trim()

    def _trim(self) -> int:
        """Move the head over those that have left; where it is then."""
        cells, line = self._cells, self._line
        head, tail = cells[line + LINE_HEAD], cells[line + LINE_TAIL]
        while head != tail and not cells[line + LINE_RING + head % LINE_PLACES]:
            head += 1
        cells[line + LINE_HEAD] = head
        return head

    def call_all(self) -> None:
        """Backends take requests again: everybody here tries, first come first."""
        for place in list(self.places.values()):
            place.call()

    def interrupt(self, fault: Fault, before: float | None = None) -> None:
        """End the wait of everybody here, or of those whose deadline is before that time."""
        for place in list(self.places.values()):
            if before is None or place.deadline < before:
                place.interrupt(fault)
