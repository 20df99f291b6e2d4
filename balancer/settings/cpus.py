"""How many CPUs this process may really use: what "auto" means."""

import os
from collections.abc import Iterator
from pathlib import Path


def usable_cpus(cgroups: Path = Path("/sys/fs/cgroup"), own: Path = Path("/proc/self/cgroup")) -> int:
    """The smaller of the affinity mask and the cgroup's CPU quota, v2 or v1; at least 1.

    A quota of 2.5 CPUs counts as 2: a third busy process would be stopped by the kernel for part of every period, which
    shows as latency, and what is left over serves the supervisor.
    """
    quotas = [quota for quota in _quotas(cgroups, own) if quota > 0]
    return max(1, min([len(os.sched_getaffinity(0)), *(int(quota) for quota in quotas)]))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """CPUs granted by each cgroup above this process; the mounted root alone when the path is not visible (containers)."""
    for line in _read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for folder in _upwards(cgroups, path):
                yield _v2(_read(folder / "cpu.max"))
        elif "cpu" in controllers.split(","):
            for mount in (cgroups / controllers, cgroups / "cpu"):
                for folder in _upwards(mount, path):
                    yield _v1(_read(folder / "cpu.cfs_quota_us"), _read(folder / "cpu.cfs_period_us"))


def _upwards(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root


def _v2(text: str) -> float:
    """'250000 100000' → 2.5; 0 when there is no limit ('max') or no such file."""
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.strip().isdigit() else 0.0


def _v1(quota: str, period: str) -> float:
    """Two files of microseconds; the quota is -1 without a limit."""
    quota, period = quota.strip(), period.strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else 0.0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
