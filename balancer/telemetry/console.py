"""What the foreground balancer shows: whole lines of many backends and its own, in order, through one writer.

A terminal that is stopped or a pipe that nobody reads must not stop the supervisor: lines wait in a `backlog` for a
thread that may block; what does not fit is dropped, counted, and said as soon as there is room again. A regular file cannot stop
for long: there, whoever writes much waits a little (`room`).
"""

import os
import re
import stat
import threading
from collections.abc import Callable
from typing import IO

from balancer.telemetry.backlog import Backlog
from balancer.telemetry.colour import RESET, colour_of

QUEUED = 4 * 1024 * 1024  # characters that wait for a slow terminal
BATCH = 64 * 1024
TYPICAL = 200  # characters of a line that is not made yet

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_SGR = re.compile(r"(\x1b\[[0-9;]*m)")


class Console:
    """Writes lines to a descriptor from a thread of its own. `write` may be called from any thread and never blocks.

    grace: seconds in which lines wait for `release`, as to make the first ones takes the processor from a start.
    """

    def __init__(self, fd: int = 2, queued: int = QUEUED, grace: float = 0.0) -> None:
        self.written = 0  # lines
        self._fd = fd
        self._backlog = Backlog("console", queued, BATCH, self._show)
        self._unread = 0  # lines for which there was no reader
        self._said = 0  # of those that the backlog dropped
        self._is_file = _is_file(fd)
        self._released = threading.Event()
        self._grace = grace

    @property
    def dropped(self) -> int:
        """Lines that are not shown."""
        return self._backlog.dropped + self._unread

    def release(self) -> None:
        """The start is over: write what waits, and from now on at once."""
        self._released.set()

    def write(self, line: str | Callable[[], str]) -> bool:
        """One line without its end, or what makes it (in the thread). False: dropped, as the queue is full or the console closed."""
        return self._backlog.put(line, len(line) if isinstance(line, str) else TYPICAL)

    async def room(self) -> None:
        """Wait for the file, if it is one, before more is written than it takes at a time."""
        if self._is_file:
            if self._backlog.is_crowded:
                self._released.set()  # what is this busy is no quick start
            await self._backlog.room()

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, for at most `timeout` seconds."""
        self._released.set()
        self._backlog.close(timeout)

    def _show(self, lines: list[str | Callable[[], str]]) -> None:
        self._released.wait(self._grace)
        self._released.set()
        dropped = self._backlog.dropped
        if dropped > self._said and self._backlog.is_empty:
            lines.append(f"balancer: {dropped - self._said} lines are not shown: the console was too slow")
            self._said = dropped
        try:
            rest = memoryview(b"".join(map(_bytes, lines)))
            while rest:
                rest = rest[os.write(self._fd, rest) :]
        except OSError:
            # Nobody will ever read it (the terminal or the pipe's reader is gone): a console is no reason to end.
            self._unread += len(lines)
        else:
            self.written += len(lines)


def _bytes(line: str | Callable[[], str]) -> bytes:
    try:
        text = line if isinstance(line, str) else line()
    except Exception as error:  # the writer must go on
        text = f"balancer: a line of the log could not be made: {error!r}"
    return text.encode(errors="replace") + b"\n"


def _is_file(fd: int) -> bool:
    try:
        return stat.S_ISREG(os.fstat(fd).st_mode)
    except OSError:
        return False  # it is closed


class Prefixes:
    """`web-3 | ` before each line, as wide as the widest name so far, in a colour that stays with the name."""

    def __init__(self, coloured: bool) -> None:
        self.coloured = coloured
        self._colours: dict[str, str] = {}
        self._width = 0

    def of(self, name: str) -> str:
        """The prefix of this backend."""
        if name not in self._colours:
            self._colours[name] = colour_of(len(self._colours))
            self._width = max(self._width, len(name))
        prefix = f"{name:<{self._width}} | "
        return f"{self._colours[name]}{prefix}{RESET}" if self.coloured else prefix


def takes_colour(stream: IO[str]) -> bool:
    """Whether colours are wanted there: a terminal, and neither NO_COLOR (no-color.org) nor a dumb one."""
    return not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and stream.isatty()


def printable(text: str, coloured: bool = False) -> str:
    """The text of a backend as it may be shown: no control character reaches the terminal but tabs, and colours if wanted."""
    if text.isprintable():
        return text
    pieces = _SGR.split(text)  # every second piece is a colour
    shown = [
        _CONTROL.sub(_escaped, piece) if index % 2 == 0 else piece * coloured for index, piece in enumerate(pieces)
    ]
    return "".join(shown) + (RESET if coloured and len(pieces) > 1 else "")


def _escaped(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
