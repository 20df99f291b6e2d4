"""What the foreground balancer shows: whole lines of many backends and its own, in order, through one writer.

A terminal that is stopped or a pipe that nobody reads must not stop the supervisor: lines wait in a bounded queue for a
thread that may block; what does not fit is dropped, counted, and said as soon as there is room again.
"""

import os
import re
import threading
from collections import deque
from typing import IO

from balancer.telemetry.colour import RESET, colour_of

QUEUED = 4 * 1024 * 1024  # bytes that wait for a slow terminal
BATCH = 64 * 1024

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029]")
_SGR = re.compile(r"(\x1b\[[0-9;]*m)")


class Console:
    """Writes lines to a descriptor from a thread of its own. `write` may be called from any thread and never blocks."""

    def __init__(self, fd: int = 2, queued: int = QUEUED) -> None:
        self.written = 0  # lines
        self.dropped = 0
        self._fd = fd
        self._limit = queued
        self._lines: deque[bytes] = deque()
        self._waiting = 0  # bytes in _lines
        self._unsaid = 0  # dropped since it was last said
        self._closed = False
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None

    def write(self, line: str) -> bool:
        """One line without its end. False: dropped, as the queue is full or the console closed."""
        data = line.encode(errors="replace") + b"\n"
        with self._changed:
            if self._closed or self._waiting + len(data) > self._limit:
                self.dropped += 1
                self._unsaid += 1
                return False
            self._lines.append(data)
            self._waiting += len(data)
            if self._thread is None:
                # A daemon: a write that blocks for ever must not keep the process from ending.
                self._thread = threading.Thread(target=self._run, name="console", daemon=True)
                self._thread.start()
            self._changed.notify()
        return True

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, for at most `timeout` seconds."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while batch := self._take():
            try:
                rest = memoryview(batch)
                while rest:
                    rest = rest[os.write(self._fd, rest) :]
            except OSError:
                # Nobody will ever read it (the terminal or the pipe's reader is gone): a console is no reason to end.
                with self._changed:
                    self.dropped += batch.count(b"\n")
            else:
                self.written += batch.count(b"\n")

    def _take(self) -> bytes:
        """The next lines in one piece, waiting for some; empty at the end."""
        with self._changed:
            while not self._lines and not self._closed:
                self._changed.wait()
            taken: list[bytes] = []
            size = 0
            while self._lines and size < BATCH:
                taken.append(self._lines.popleft())
                size += len(taken[-1])
            self._waiting -= size
            if self._unsaid and not self._lines:
                taken.append(b"balancer: %d lines are not shown: the console was too slow\n" % self._unsaid)
                self._unsaid = 0
            return b"".join(taken)


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
