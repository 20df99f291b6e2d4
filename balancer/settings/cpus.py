"""How many CPUs this process may really use: what "auto" means."""

import os
from collections.abc import Iterator
from pathlib import Path

from balancer.settings.cgroups import MOUNT, OWN, folders, read


def usable_cpus(cgroups: Path = MOUNT, own: Path = OWN) -> int:
    """The smaller of the affinity mask and the cgroup's CPU quota, v2 or v1; at least 1.

    A quota of 2.5 CPUs counts as 2: a third busy process would be stopped by the kernel for part of every period, which
    shows as latency, and what is left over serves the supervisor.
    """
    quotas = [quota for quota in _quotas(cgroups, own) if quota > 0]
    return max(1, min([len(os.sched_getaffinity(0)), *(int(quota) for quota in quotas)]))


def _quotas(cgroups: Path, own: Path) -> Iterator[float]:
    """CPUs granted by each cgroup above this process."""
    for version, folder in folders("cpu", cgroups, own):
        if version == 2:
            yield _v2(read(folder / "cpu.max"))
        else:
            yield _v1(read(folder / "cpu.cfs_quota_us"), read(folder / "cpu.cfs_period_us"))


def _v2(text: str) -> float:
    """'250000 100000' → 2.5; 0 when there is no limit ('max') or no such file."""
    quota, _, period = text.partition(" ")
    return int(quota) / int(period) if quota.isdigit() and period.strip().isdigit() else 0.0


def _v1(quota: str, period: str) -> float:
    """Two files of microseconds; the quota is -1 without a limit."""
    quota, period = quota.strip(), period.strip()
    return int(quota) / int(period) if quota.isdigit() and period.isdigit() and int(period) else 0.0
