"""The wire: a connected, non-blocking stream socket that tasks wait on.

Try first, wait second. A wait is a flag, a task and a number: a deadline is compared by `proxy/sweep`, not held by a cancel scope,
and a peer that leaves is seen when it leaves, whoever waits for what (`Wire.watcher`).

Rules: one task at a time may wait for reading and one for writing; a `Wire` is closed by its owner.
"""

import errno
import select
import socket
import struct
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, ClassVar, Final, Protocol

import outcome
from trio.lowlevel import Abort, Task, current_task, reschedule, wait_task_rescheduled

from balancer.errors import Fault, Moment, Reason, Side
from balancer.net.poller import Poller

_DEAD: Final = select.EPOLLHUP | select.EPOLLERR
EITHER_WAY: Final = select.EPOLLIN | select.EPOLLOUT
_LEFT: Final = select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR


class Interruptible(Protocol):
    """Something whose waits can be ended from outside."""

    def interrupt(self, fault: Fault) -> None:
        """End every wait on it by raising `fault`."""
        ...


class Wire:
    """A connected, non-blocking stream socket.

    `side` and `broken` say what a reset on it means: the `Fault` it raises. `read_deadline` and `write_deadline`
    (CLOCK_MONOTONIC seconds) hold while a task waits; `late` and `late_write` are the reasons of the fault when they pass.
    """

    is_plain: ClassVar[bool] = True  # what goes through the socket is what the caller says: it may be spliced
    __slots__ = (
        "_fault",
        "_poller",
        "_recv",
        "_send",
        "_wants_writable",
        "broken",
        "fd",
        "is_bounded",
        "is_dead",
        "late",
        "late_write",
        "left",
        "lowat",
        "on_readable",
        "read_deadline",
        "readable",
        "reader",
        "side",
        "sock",
        "watcher",
        "writable",
        "write_deadline",
        "write_timeout",
        "writer",
    )

    def __init__(self, poller: Poller, sock: socket.socket, side: Side, broken: Reason) -> None:
        self.sock = sock
        self.fd = sock.fileno()
        self.side = side
        self.broken = broken
        self.late = broken
        self.late_write = broken
        self._poller = poller
        self._recv = sock.recv
        self._send = sock.send
        self.readable = True  # unknown until tried
        self.writable = True
        self.left = False  # the peer has closed its side, or the connection is dead
        self.is_dead = False  # neither way is open any more
        self.reader: Task | None = None
        self.writer: Task | None = None
        self.read_deadline = inf
        self.write_deadline = inf
        self.write_timeout = inf
        self.is_bounded = False  # the kernel takes little that is not sent, see `net/unsent`
        self.lowat = False  # SO_RCVLOWAT is raised, see `net/splice`
        self._wants_writable = False
        self._fault: Fault | None = None
        self.watcher: Interruptible | None = None  # whose waits end when *our* peer leaves
        self.on_readable: Callable[[Wire], None] | None = None  # while nobody waits: an idle upstream connection
        poller.add(self)

    @property
    def is_resumed(self) -> bool:
        """Whether it goes on with a TLS session of before."""
        return False

    def on_events(self, events: int) -> None:
        """Called by the poller with what epoll reported."""
        if events & ~select.EPOLLOUT:
            self.readable = True
            task = self.reader
            if task is not None:
                self.reader = None
                reschedule(task)
            if events & _LEFT:
                self.left = True
                self.is_dead = bool(events & _DEAD)
                if self.watcher is not None and self.is_gone():
                    self.watcher.interrupt(Fault(self.side, self.broken))
            if task is None and self.on_readable is not None:
                self.on_readable(self)
        if events & (select.EPOLLOUT | select.EPOLLHUP | select.EPOLLERR):
            self.writable = True
            task = self.writer
            if task is not None:
                self.writer = None
                reschedule(task)

    def is_gone(self) -> bool:
        """Whether the peer has left and nothing that it sent is still to be read, or the connection is reset. Asks the kernel."""
        if not self.left:
            return False
        if self.is_dead:
            return True  # what is still to be read of it has no one to be answered
        try:
            return not self._recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def has_bytes(self) -> bool:
        """Whether there is something to read other than an end. Asks the kernel."""
        try:
            return bool(self._recv(1, socket.MSG_PEEK))
        except OSError:
            return False

    def is_silent(self) -> bool:
        """Whether nothing has come that nobody has read, neither bytes nor an end. Asks the kernel."""
        return self.is_drained()

    def is_drained(self) -> bool:
        """Whether the kernel holds nothing unread, not even an end: only then does `close` not reset the connection. Asks it."""
        try:
            self._recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            self.readable = False
            return True
        except OSError:
            pass
        return False

    def interrupt(self, fault: Fault) -> None:
        """End every wait on this wire, the present ones and the next, by raising `fault`."""
        self._fault = fault.again()  # it may come here from where it was raised
        for task in (self.reader, self.writer):
            if task is not None:
                reschedule(task, outcome.Error(fault.again()))
        self.reader = self.writer = None

    async def wait_readable(self) -> None:
        """Until there may be something to read. Raises the fault of an interruption."""
        if self._fault is not None:
            raise self._fault.again()
        if not self.readable:
            self.reader = current_task()
            await wait_task_rescheduled(self._abort_reader)

    async def wait_writable(self) -> None:
        """Until there may be room to write, `write_timeout` at most. Raises the fault of an interruption."""
        if self._fault is not None:
            raise self._fault.again()
        if not self._wants_writable:
            self._wants_writable = True
            self._poller.want_writable(self)
        if not self.writable:
            self.write_deadline = monotonic() + self.write_timeout
            self.writer = current_task()
            await wait_task_rescheduled(self._abort_writer)

    async def receive(self, size: int = 32768) -> bytes:
        """What there is to read, at most `size` bytes; b"" at the end. Raises Fault (this side's) when it breaks or is late."""
        while True:
            if self.readable:
                try:
                    data = self._recv(size)
                except BlockingIOError:
                    self.readable = False
                except OSError as error:
                    raise self.fault(error) from None
                else:
                    # A short read has emptied the kernel's buffer; only an end that is already known is still to come.
                    if len(data) < size and not self.left:
                        self.readable = False
                    return data
            if self._fault is not None:
                raise self._fault.again()
            if not self.readable:
                self.reader = current_task()
                await wait_task_rescheduled(self._abort_reader)

    def send_now(self, data: "bytes | memoryview[int]") -> int:
        """Write what fits now; how many bytes that was. Raises Fault when the connection is broken."""
        try:
            return self._send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.fault(error) from None

    def send_last(self, data: bytes) -> int:
        """As `send_now`, for the last words before `close` or `hang_up`: they leave together, in one packet if they are few."""
        try:
            return self.sock.send(data, socket.MSG_MORE)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise self.fault(error) from None

    async def send(self, data: "bytes | memoryview[int]") -> None:
        """Write all of it. Raises Fault when it breaks or no byte moves for `write_timeout`."""
        sent = self.send_now(data)
        if sent < len(data):
            await self.send_rest(data, sent)

    async def send_rest(self, data: "bytes | memoryview[int]", sent: int) -> None:
        """Write all from `sent` on, after a `send_now` that was not enough."""
        rest = memoryview(data)[sent:]
        while rest:
            self.writable = False
            await self.wait_writable()
            rest = rest[self.send_now(rest) :]

    def fault(self, error: OSError) -> Fault:
        """What an OSError on this wire means."""
        name = errno.errorcode.get(error.errno or 0, "error")
        return Fault(self.side, self.broken, Moment.AFTER_SEND, name)

    def shutdown_write(self) -> None:
        """Say that nothing more comes; reading goes on."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it is gone already, which reading will tell

    async def hang_up(self) -> None:
        """Say the last word; what comes from now on means nothing any more, and is only read to be gone."""
        self.shutdown_write()

    def reset_on_close(self) -> None:
        """Have `close` reset the connection: its end must not look like the end of what was being sent."""
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        except OSError:
            pass  # it is broken already

    @property
    def is_interrupted(self) -> bool:
        """Whether the next wait will raise the fault of an interruption."""
        return self._fault is not None

    def clear_fault(self) -> None:
        """Allow waits again after an interruption."""
        self._fault = None

    def close(self) -> None:
        """Close it; whoever still waits on it gets a fault. May be called again."""
        if self.fd >= 0:
            self._poller.remove(self)
            self.fd = -1
            self.sock.close()
            self._fault = Fault(self.side, self.broken)
            if self.reader is not None or self.writer is not None:
                self.interrupt(self._fault)
            self.watcher = None
            self.on_readable = None

    def _abort_reader(self, _: Any) -> Abort:
        self.reader = None
        return Abort.SUCCEEDED

    def _abort_writer(self, _: Any) -> Abort:
        self.writer = None
        return Abort.SUCCEEDED
