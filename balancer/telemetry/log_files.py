"""What backends write, in files: one per backend, exchanged when it is large, the oldest removed.

Lines wait in a `backlog` for a thread that may block: a disk that is full or does not answer never stops a backend or the supervisor,
and one that is busy makes those wait a little that write much (`room`). Each batch opens its files anew, so files that somebody else moved
or removed are simply made again.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from balancer.telemetry.backlog import Backlog

QUEUED = 8 * 1024 * 1024  # bytes that wait for a slow disk
BATCH = 256 * 1024


@dataclass(frozen=True, slots=True)
class FileSettings:
    """folder "": no files; max_size: bytes of one; max_files: kept of each, the one that is written to included."""

    folder: str = ""
    max_size: int = 10 * 1024 * 1024
    max_files: int = 5


class LogFiles:
    """`write` may be called from any thread and never blocks. written, dropped: lines; problem: why the last write failed."""

    def __init__(self, settings: FileSettings, on_problem: Callable[[str], object] = lambda _: None) -> None:
        """on_problem: called (in the writer's thread) with a sentence each time that a new problem comes up."""
        self.settings = settings
        self.written = 0
        self.problem = ""
        self._on_problem = on_problem
        self._backlog = Backlog("log files", QUEUED, BATCH, self._append)
        self._lost = 0  # lines that could not be written

    @property
    def dropped(self) -> int:
        """Lines that are in no file."""
        return self._backlog.dropped + self._lost

    def write(self, name: str, line: bytes) -> bool:
        """One line, its end included, for the file of this name. False: dropped, as the queue is full."""
        return self._backlog.put((name, line), len(line))

    async def room(self) -> None:
        """Wait for the disk before more is written than it takes at a time."""
        await self._backlog.room()

    def close(self, timeout: float = 1.0) -> None:
        """Write what waits, for at most `timeout` seconds."""
        self._backlog.close(timeout)

    def _append(self, batch: list[tuple[str, bytes]]) -> None:
        by_name: dict[str, list[bytes]] = {}
        for name, line in batch:
            by_name.setdefault(name, []).append(line)
        for name, lines in by_name.items():
            try:
                append(self.settings, name, lines)
            except OSError as error:
                self._lost += len(lines)
                self._note(f"log.backends: {error.filename or self.settings.folder}: {error.strerror}")
            else:
                self.written += len(lines)
                self._note("")

    def _note(self, problem: str) -> None:
        if problem and problem != self.problem:
            self._on_problem(problem)
        self.problem = problem


def append(settings: FileSettings, name: str, lines: Iterable[bytes]) -> None:
    """Write whole lines to `FOLDER/NAME.log`, exchanging it as often as needed. Raises OSError."""
    os.makedirs(settings.folder, exist_ok=True)
    path = os.path.join(settings.folder, f"{name}.log")
    fd = _open(path)
    try:
        size = os.fstat(fd).st_size
        pending: list[bytes] = []
        for line in lines:
            if size and size + len(line) > settings.max_size:
                _write(fd, pending)
                os.close(fd)
                fd = -1
                rotate(path, settings.max_files)
                fd, size, pending = _open(path), 0, []
            pending.append(line)
            size += len(line)
        _write(fd, pending)
    finally:
        if fd >= 0:
            os.close(fd)


def rotate(path: str, kept: int) -> None:
    """PATH becomes PATH.1, that one PATH.2 and so on; of all together `kept` remain, with the new PATH. Raises OSError."""
    names = [path, *(f"{path}.{number}" for number in range(1, kept))]
    _remove(names[-1])
    for older, newer in zip(reversed(names), reversed(names[:-1]), strict=False):
        try:
            os.replace(newer, older)
        except FileNotFoundError:
            pass
    # What an earlier setting with more files has left.
    number = kept
    while _remove(f"{path}.{number}"):
        number += 1


def _remove(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _open(path: str) -> int:
    # Non-blocking for the sake of a FIFO that somebody put there: to open one that nobody reads would wait for ever.
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o640)


def _write(fd: int, lines: list[bytes]) -> None:
    rest = memoryview(b"".join(lines))
    while rest:
        rest = rest[os.write(fd, rest) :]
