"""What processes cost, from /proc: resident memory, CPU seconds, descriptors. A whole group counts as its leader's."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balancer.pool.backend import BackendId

_TICKS: Final = os.sysconf("SC_CLK_TCK")
_PAGE: Final = os.sysconf("SC_PAGE_SIZE")
# Shares of CPU are of the time since they were last asked for, but not of less than this.
_SPAN: Final = 1.0


@dataclass(frozen=True, slots=True)
class Resources:
    """What one process group uses. cpu_percent: of one core, since it was last asked; the first time since it started, as ps does."""

    memory_bytes: int
    cpu_seconds: float
    cpu_percent: float


class Usage:
    """Reads /proc at most once per moment, however many backends are asked for."""

    def __init__(self, pid_of: Callable[[BackendId], int | None]) -> None:
        self.pid_of = pid_of
        self._read_at = 0.0
        self._groups: dict[int, tuple[int, float]] = {}
        self._marks: dict[int, tuple[float, float, float]] = {}  # pid: when, CPU seconds then, share shown

    def of(self, pid: int) -> Resources | None:
        """The group that `pid` leads; None when it is gone."""
        instant = time.monotonic()
        if instant - self._read_at > 0.1:
            self._groups = _read_groups()
            self._read_at = instant
            self._marks = {pid: mark for pid, mark in self._marks.items() if pid in self._groups}
        found = self._groups.get(pid)
        if found is None:
            return None
        memory, cpu = found
        then, cpu_then, share = self._marks.get(pid) or (instant - _age(pid), 0.0, 0.0)
        if pid not in self._marks or instant - then >= _SPAN:
            share = round(100 * (cpu - cpu_then) / (instant - then), 1) if instant > then else share
            self._marks[pid] = (instant, cpu, share)
        return Resources(memory, cpu, share)


def memory_of(pid: int) -> int:
    """Resident bytes of the group that `pid` leads; 0 when it is gone."""
    return _read_groups().get(pid, (0, 0.0))[0]


def open_descriptors(pid: int) -> int:
    """How many descriptors a process has open; 0 when it is gone or not ours to look at."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def start_time(pid: int) -> float:
    """When a process started, in Unix seconds; 0 when it is gone."""
    age = _age(pid)
    return time.time() - age if age else 0.0


def _age(pid: int) -> float:
    """Seconds since a process started; 0 when it is gone."""
    try:
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(_stat(pid)[19]) / _TICKS
    except (OSError, ValueError, IndexError):
        return 0.0


def _read_groups() -> dict[int, tuple[int, float]]:
    """pgid → (resident bytes, CPU seconds with those of reaped children) over its living processes."""
    groups: dict[int, tuple[int, float]] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            fields = _stat(int(name))
            group = int(fields[2])
            memory = int(fields[21]) * _PAGE
            cpu = sum(map(int, fields[11:15])) / _TICKS
        except (OSError, ValueError, IndexError):
            continue
        before = groups.get(group, (0, 0.0))
        groups[group] = before[0] + memory, before[1] + cpu
    return groups


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on (proc(5) counts it as the third)."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        # The name of the program may hold spaces and brackets.
        return file.read().rpartition(")")[2].split()
