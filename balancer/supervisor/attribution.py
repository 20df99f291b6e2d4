"""Why a backend process ended, and which requests keep ending backends (FIELD F5). Pure but for reading a kernel counter."""

import os
import signal
from pathlib import Path
from typing import Final

# Signals that somebody sends to a process; any other that ends one is its own mistake.
_FROM_OUTSIDE: Final = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM),
        *(signal.SIGUSR1, signal.SIGUSR2),
    }
)
_OOM_TIME: Final = 1.0  # seconds within which all processes that were killed are the same shortage's


def is_own_doing(returncode: int, out_of_memory: bool) -> bool:
    """Whether a process that nobody had asked to leave ended by itself.

    returncode: as in `spawn.Process`; 128 + n is how shells, Java and Node.js say that they or their child got signal n.
    out_of_memory: the kernel says that it killed for want of memory, which is the process's own doing too.
    """
    number = -returncode if returncode < 0 else returncode - 128
    if number == signal.SIGKILL and out_of_memory:
        return True
    return number not in _FROM_OUTSIDE


class OutOfMemory:
    """Whether the kernel has killed for want of memory lately, by the counter `oom_kill` of our cgroup or of the machine."""

    def __init__(self, source: Path | None = None) -> None:
        """source: a file with a line `oom_kill N`; by default the most precise one that there is."""
        self._source = source or _oom_source()
        self._seen = self._count()
        self._until = 0.0

    def happened(self, now: float) -> bool:
        """Since it was last asked, or within the last second. now: CLOCK_MONOTONIC seconds."""
        count = self._count()
        if count > self._seen:
            self._until = now + _OOM_TIME
        self._seen = count
        return now < self._until

    def _count(self) -> int:
        try:
            fields = dict(line.split()[:2] for line in self._source.read_text().splitlines())
            return int(fields.get("oom_kill", 0))
        except (OSError, ValueError):
            return 0


def _oom_source() -> Path:
    """cgroup v2 `memory.events`, v1 `memory.oom_control`, else /proc/vmstat (since Linux 4.13), which counts for all."""
    found = []
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.append(f"/sys/fs/cgroup/{path}/memory.events")
            elif "memory" in controllers.split(","):
                # In a container its own cgroup is often mounted as if it were the root.
                found += [f"/sys/fs/cgroup/memory/{place}/memory.oom_control" for place in (path, "")]
    except (OSError, ValueError):
        pass
    return next((Path(path) for path in map(os.path.normpath, found) if os.path.isfile(path)), Path("/proc/vmstat"))
