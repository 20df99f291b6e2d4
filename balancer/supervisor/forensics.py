"""Notes about backends that hung or crashed, for whoever wants to know why: a text file each, the oldest go.

What was in flight, the last lines that it wrote, and, while it still lives, what the kernel says about it. Nothing here may hold up the
end of a process: files are written in a thread, which is given up when the disk does not answer.
"""

import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import trio

from balancer.pool.backend import Backend
from balancer.telemetry.wording import worded

LINES: Final = 100  # of its output
KEPT: Final = 50  # notes
KEPT_BYTES: Final = 8 * 1024 * 1024  # of all notes together
LARGEST: Final = 256 * 1024  # bytes of one
THREADS: Final = 50  # of a process that are looked at
DUMP_TIME: Final = 1.0  # seconds for a process to write its stack
WRITE_TIME: Final = 2.0
_STATUS: Final = (
    *("State", "PPid", "Uid", "FDSize", "VmPeak", "VmRSS", "VmSwap", "RssAnon", "Threads"),
    *(
        "SigPnd",
        "SigBlk",
        "SigIgn",
        "SigCgt",
        "Cpus_allowed_list",
        "voluntary_ctxt_switches",
        "nonvoluntary_ctxt_switches",
    ),
)


class Forensics:
    """Writes notes into one folder, which is made when the first one comes. folder "": no notes."""

    def __init__(self, folder: str, last_lines: Callable[[str, str, int], Sequence[str]]) -> None:
        """last_lines: (pool, backend, how many) of the output kept."""
        self.folder = folder
        self.problem = ""  # why the last one could not be written
        self._last_lines = last_lines

    def path(self, backend: Backend, kind: str) -> str:
        """Where a note of this kind ("hung", "crashed") made now will be; "": nowhere."""
        if not self.folder:
            return ""
        moment = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        return os.path.join(self.folder, f"{moment}-{backend.id.name}-{backend.id.generation}-{kind}.txt")

    async def write(
        self,
        path: str,
        backend: Backend,
        facts: Mapping[str, Any],
        requests: Iterable[Mapping[str, Any]],
        pid: int | None = None,
        *,
        count: int = 0,
    ) -> None:
        """One note. facts: whatever is known, by name; requests: that are or were in flight; pid: of the process, if it lives.

        count: how many requests there were, if `requests` may be only some of them.
        """
        lines = self._last_lines(backend.pool, backend.id.name, LINES) if path else ()
        head = {
            "backend": f"{backend.id.name} (pool {backend.pool}, generation {backend.id.generation}, {backend.address})",
            **facts,
        }
        if not path:
            return
        with trio.move_on_after(WRITE_TIME) as patience:
            self.problem = await trio.to_thread.run_sync(
                _write, path, head, list(requests), count, list(lines), pid, abandon_on_cancel=True
            )
        if patience.cancelled_caught:
            self.problem = f"{path}: not written within {WRITE_TIME:g} s"


def examine(pid: int) -> dict[str, str]:
    """What /proc says about a process (proc(5)); what is not there or not allowed is left out."""
    process = Path(f"/proc/{pid}")
    found: dict[str, str] = {}
    status = dict(line.split(":\t", 1) for line in _read(process / "status").splitlines() if ":\t" in line)
    found["status"] = "\n".join(f"{name}: {status[name].strip()}" for name in _STATUS if name in status)
    found["kernel stack"] = _read(process / "stack")
    found["threads"] = "\n".join(_threads(process / "task"))
    found["io"] = _read(process / "io")
    found["limits"] = _read(process / "limits")
    try:
        found["open descriptors"] = str(len(os.listdir(process / "fd")))
    except OSError:
        pass
    return {name: text for name, text in found.items() if text.strip()}


def is_stopped(pid: int) -> bool:
    """Whether somebody has stopped it: SIGSTOP, or a debugger."""
    return _read(Path(f"/proc/{pid}/stat")).rpartition(")")[2].split()[:1] in (["T"], ["t"])


def _threads(folder: Path) -> list[str]:
    try:
        ids = sorted(os.listdir(folder), key=int)
    except OSError:
        return []
    lines = []
    for thread in ids[:THREADS]:
        state = _read(folder / thread / "stat").rpartition(")")[2].split()[:1]
        name, place = _read(folder / thread / "comm").strip(), _read(folder / thread / "wchan").strip("\0 ")
        lines.append(f"{thread} {name} state {''.join(state)} waits in {place if place not in ('', '0') else '-'}")
    return lines + ([f"and {len(ids) - THREADS} more"] if len(ids) > THREADS else [])


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _write(
    path: str, head: Mapping[str, Any], requests: list[Any], count: int, lines: list[str], pid: int | None
) -> str:
    """In a thread. Returns why it could not be done, "" if it was."""
    parts = [
        f"{name}: {worded(value)}" for name, value in {"date": time.strftime("%Y-%m-%d %H:%M:%S %z"), **head}.items()
    ]
    more = max(0, count - len(requests))
    parts += ["", f"requests in flight: {len(requests) + more}"]
    parts += [f"  {worded(request)}  {request.get('request_id', '')}".rstrip() for request in requests]
    parts += [f"  and {more} more"] if more else []
    for name, text in (examine(pid) if pid is not None else {}).items():
        parts += ["", f"{name}:", *(f"  {line}" for line in text.splitlines())]
    parts += ["", f"last lines of output: {len(lines)}", *(f"  {line}" for line in lines)]
    data = "\n".join(parts).encode(errors="replace")[:LARGEST] + b"\n"
    try:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        # Output of an app and paths of requests: for the owner alone.
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(data)
        _make_room(Path(path).parent)
    except OSError as error:
        return f"{path}: {error.strerror}"
    return ""


def _make_room(folder: Path) -> None:
    """Remove the oldest notes until number and size are kept; their names begin with the date."""
    notes = sorted(folder.glob("[0-9]*T[0-9]*-*.txt"), reverse=True)
    size = 0
    for number, note in enumerate(notes):
        size += note.stat().st_size
        if number >= KEPT or (size > KEPT_BYTES and number):
            note.unlink(missing_ok=True)
