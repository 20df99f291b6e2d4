"""How much memory the backends of a file will want, and how much there is. Bytes."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from balancer.settings.cgroups import MOUNT, OWN, folders, read
from balancer.settings.model import Settings

MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True, slots=True)
class Room:
    """What processes started here can have. total: of the machine or the tightest cgroup; available: of that, now."""

    total: int
    available: int
    is_limited: bool = False  # by a cgroup


@dataclass(frozen=True, slots=True)
class Need:
    """Of one pool. backends: that are started here; surge: how many more there are at times during a reload."""

    pool: str
    backends: int
    surge: int
    measured: int = 0  # the largest that runs now; 0: none does
    limit: int = 0  # restart.max_memory; 0: none
    hard: int = 0  # limits.memory; 0: none

    @property
    def expected(self) -> int:
        """Of one backend: as large as those that run, else as large as it gets before it is replaced; 0: nobody knows."""
        found = self.measured or self.limit
        return min(found, self.hard) if self.hard else found

    @property
    def most(self) -> int:
        """Of one backend, before it is killed or replaced for its size; 0: nobody knows."""
        return self.hard or max(self.measured, self.limit)


def room(cgroups: Path = MOUNT, own: Path = OWN, meminfo: Path = MEMINFO) -> Room:
    """As the kernel says now; all 0 when it says nothing."""
    found = dict(re.findall(r"^(\w+): +(\d+) kB$", read(meminfo), re.M))
    total, available = (int(found.get(name, 0)) * 1024 for name in ("MemTotal", "MemAvailable"))
    is_limited = False
    for limit, used in _limits(cgroups, own):
        if limit < total:
            total, is_limited = limit, True
        available = min(available, max(0, limit - used))
    return Room(total, available, is_limited)


def needs(settings: Settings, measured: Mapping[str, Sequence[int]]) -> list[Need]:
    """Of each pool that starts something. measured: memory of the backends that run now, by pool."""
    found = []
    for name, pool in settings.pool.items():
        backends = sum(group.backend_count for group in pool.groups if group.is_spawned)
        if backends:
            surge = min(backends, pool.rollout.surge.of(pool.backend_count))
            largest = max(measured.get(name, ()), default=0)
            found.append(Need(name, backends, surge, largest, pool.restart.max_memory, pool.limits.memory))
    return found


def peak(of_each: Sequence[tuple[Need, int]]) -> int:
    """All at once, and the largest surge beside them: a reload replaces the backends of one pool after another's."""
    surges = [need.surge * each for need, each in of_each]
    return sum(need.backends * each for need, each in of_each) + max(surges, default=0)


def _limits(cgroups: Path, own: Path) -> Iterator[tuple[int, int]]:
    """(limit, used) of each cgroup above this process that has one; what the kernel would give back at once is not used."""
    for version, folder in folders("memory", cgroups, own):
        names = ("memory.max", "memory.current") if version == 2 else ("memory.limit_in_bytes", "memory.usage_in_bytes")
        limit, used = (read(folder / name).strip() for name in names)
        if limit.isdigit() and used.isdigit():
            kept = re.search(rf"^{'total_' * (version == 1)}inactive_file (\d+)$", read(folder / "memory.stat"), re.M)
            yield int(limit), max(0, int(used) - int(kept[1] if kept else 0))
