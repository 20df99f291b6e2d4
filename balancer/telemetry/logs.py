"""What backends wrote to stdout and stderr: the last lines of each, and everybody's as they come. Held by the supervisor."""

import json
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from balancer.telemetry.console import Console, Prefixes, printable
from balancer.telemetry.log_files import LogFiles
from balancer.telemetry.ring import Ring

KEPT_LINES = 1000  # per backend
KEPT_CHARACTERS = 256 * 1024  # per backend: a line may be long
LINE = 16 * 1024  # characters kept of one line
RECENT = 4000  # lines of all backends together: how far a follower may fall behind
BACKENDS = 4096  # beyond, the one that was silent longest is forgotten

LOST = "lost"  # the stream of the line that tells a slow follower how many it missed


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of one backend process."""

    number: int  # over all backends
    time: float  # Unix seconds, when it was read
    pool: str
    backend: str
    generation: int
    stream: str  # "stdout" · "stderr" · LOST
    line: str

    def to_json(self) -> dict[str, Any]:
        """As the API gives it."""
        return {
            "time": round(self.time, 6),
            "pool": self.pool,
            "backend": self.backend,
            "generation": self.generation,
            "stream": self.stream,
            "line": self.line,
        }


class Logs:
    """Takes the lines, shows them on the console (when there is one), and keeps some.

    format: of the console, "text" or "json", as the balancer's own log: what reads JSON should read nothing else.
    """

    def __init__(
        self,
        console: Console | None = None,
        coloured: bool = False,
        format: str = "text",  # noqa: A002
        files: LogFiles | None = None,
    ) -> None:
        """files: where lines go beside the console, while they are set to a folder."""
        self.files_as_json = False
        self._files = files
        self._console = console
        self._json = format == "json"
        self._prefixes = Prefixes(coloured)
        self._recent: Ring[LogLine] = Ring(RECENT)
        self._kept: OrderedDict[tuple[str, str], _Kept] = OrderedDict()

    def line(self, pool: str, backend: str, generation: int, stream: str, text: str) -> None:
        """One whole line, without its end. Never blocks. pool "": of a proxy, whose stdout is the access log."""
        if not pool and stream == "stdout":
            if self._console is not None:
                self._console.write(text)
            return
        if len(text) > LINE:
            text = f"{text[:LINE]} … ({len(text) - LINE} more characters)"
        if pool and self._files is not None and self._files.settings.folder:
            self._to_file(pool, backend, generation, stream, text)
        line = LogLine(self._recent.next, time.time(), pool, backend, generation, stream, text)
        self._recent.append(line)
        kept = self._kept.get((pool, backend))
        if kept is None:
            kept = self._kept[pool, backend] = _Kept()
            if len(self._kept) > BACKENDS:
                self._kept.popitem(last=False)
        else:
            self._kept.move_to_end((pool, backend))
        kept.append(line)
        if self._console is not None:
            self._console.write(self._shown(line))

    async def room(self) -> None:
        """Wait, a moment, while files cannot take more lines; never for a terminal or a pipe, whose readers may have stopped."""
        if self._console is not None:
            await self._console.room()
        if self._files is not None:
            await self._files.room()

    def _to_file(self, pool: str, backend: str, generation: int, stream: str, text: str) -> None:
        assert self._files is not None
        if self.files_as_json:
            text = json.dumps(LogLine(0, time.time(), pool, backend, generation, stream, text).to_json())
        self._files.write(backend, text.encode(errors="replace") + b"\n")

    def _shown(self, line: LogLine) -> str:
        if self._json:
            return json.dumps(line.to_json())
        return self._prefixes.of(line.backend) + printable(line.line, self._prefixes.coloured)

    def last(self, count: int, pool: str = "", backend: str = "") -> list[LogLine]:
        """At most so many of the newest of the selected backends ("": all), in the order in which they came."""
        if count <= 0:
            return []
        lines = [line for key, kept in self._kept.items() if _selects(pool, backend, *key) for line in kept.lines]
        lines.sort(key=lambda line: line.number)
        return lines[-count:]

    def last_of(self, pool: str, backend: str, count: int) -> list[str]:
        """The text of the newest lines of one backend."""
        return [line.line for line in self.last(count, pool, backend)]

    async def follow(self, last: int = 0, pool: str = "", backend: str = "") -> AsyncIterator[LogLine]:
        """The last so many, then each as it comes, for ever. One of stream "lost" says how many this follower missed."""
        start = self._recent.next
        for line in self.last(last, pool, backend):
            yield line
        async for missed, lines in self._recent.follow(start):
            if missed:
                text = f"{missed} lines of all backends were missed here: the reader was too slow"
                yield LogLine(lines[0].number, time.time(), pool, backend, 0, LOST, text)
            for line in lines:
                if _selects(pool, backend, line.pool, line.backend):
                    yield line


class _Kept:
    """The last lines of one backend, bounded in number and size."""

    __slots__ = ("lines", "size")

    def __init__(self) -> None:
        self.lines: deque[LogLine] = deque()
        self.size = 0

    def append(self, line: LogLine) -> None:
        self.lines.append(line)
        self.size += len(line.line)
        while len(self.lines) > KEPT_LINES or self.size > KEPT_CHARACTERS:
            self.size -= len(self.lines.popleft().line)


def _selects(wanted_pool: str, wanted_backend: str, pool: str, backend: str) -> bool:
    return wanted_pool in ("", pool) and wanted_backend in ("", backend)
