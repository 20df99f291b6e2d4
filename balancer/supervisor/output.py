"""What a process writes to stdout and stderr: read as it comes, cut into whole lines, handed on."""

import os
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

MAX_LINE: Final = 16 * 1024  # bytes; a longer line is cut into several, as journald does
_READ: Final = 64 * 1024


class LineSink(Protocol):
    """Where captured lines go (`telemetry.logs`)."""

    def line(self, pool: str, backend: str, generation: int, stream: str, text: str) -> None:
        """Take one line, without its end; stream: "stdout" or "stderr". Never blocks."""
        ...

    async def room(self) -> None:
        """Wait, a moment at most, while more lines would be too many."""
        ...


class Lines:
    """Cuts bytes into lines of text."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that `data` completes."""
        *whole, self._rest = (self._rest + data).split(b"\n")
        lines = [_text(part) for line in whole for part in _parts(line)]
        while len(self._rest) >= MAX_LINE:
            lines.append(_text(self._rest[:MAX_LINE]))
            self._rest = self._rest[MAX_LINE:]
        return lines

    def end(self) -> list[str]:
        """What is left when nothing more comes."""
        rest, self._rest = self._rest, b""
        return [_text(rest)] if rest else []


async def capture(
    fd: int,
    deliver: Callable[[str], None],
    exited: trio.Event,
    room: Callable[[], Awaitable[None]] = trio.lowlevel.checkpoint,
) -> None:
    """Read `fd` until its end, and close it. room: waits until more may be delivered.

    Not longer than the process lives: a daemon that it left behind may hold the pipe open for ever.
    """
    lines = Lines()

    def take() -> bool:
        """True when there is nothing more to come."""
        try:
            data = os.read(fd, _READ)
        except BlockingIOError:
            return False
        for line in lines.feed(data) if data else lines.end():
            deliver(line)
        return not data

    try:
        async with trio.open_nursery() as nursery:

            async def stop_at_exit() -> None:
                await exited.wait()
                nursery.cancel_scope.cancel()

            nursery.start_soon(stop_at_exit)
            while True:
                await trio.lowlevel.wait_readable(fd)
                await room()
                if take():
                    break
            nursery.cancel_scope.cancel()
        # A pipe holds 64 KiB, 1 MiB if somebody enlarged it: what was written before the end is read, not more.
        for _ in range(16):
            await room()
            if not exited.is_set() or take():
                break
        for line in lines.end():
            deliver(line)
    finally:
        os.close(fd)


def _parts(line: bytes) -> list[bytes]:
    if len(line) <= MAX_LINE:
        return [line]
    return [line[start : start + MAX_LINE] for start in range(0, len(line), MAX_LINE)]


def _text(line: bytes) -> str:
    return line.removesuffix(b"\r").decode("utf-8", "replace")
