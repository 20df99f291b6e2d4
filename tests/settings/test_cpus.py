import os
from pathlib import Path

import pytest

from balancer.settings.cpus import usable_cpus


@pytest.fixture(autouse=True)
def _sixteen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))


def _tree(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def test_without_a_quota_the_affinity_counts(tmp_path: Path) -> None:
    assert usable_cpus(tmp_path, tmp_path / "none") == 16


@pytest.mark.parametrize(("quota", "cpus"), [("250000 100000", 2), ("50000 100000", 1), ("max 100000", 16), ("", 16)])
def test_a_quota_is_rounded_down_to_at_least_one(tmp_path: Path, quota: str, cpus: int) -> None:
    root = _tree(tmp_path, {"own": "0::/\n", "fs/cpu.max": quota})
    assert usable_cpus(root / "fs", root / "own") == cpus


def test_the_tightest_group_above_counts(tmp_path: Path) -> None:
    files = {
        "own": "0::/a/b\n",
        "fs/a/cpu.max": "300000 100000",
        "fs/a/b/cpu.max": "500000 100000",
        "fs/cpu.max": "max 100000",
    }
    root = _tree(tmp_path, files)
    assert usable_cpus(root / "fs", root / "own") == 3


def test_the_older_kind_of_groups(tmp_path: Path) -> None:
    files = {
        "own": "5:memory:/x\n4:cpu,cpuacct:/x\n0::/\n",
        "fs/cpu,cpuacct/x/cpu.cfs_quota_us": "400000\n",
        "fs/cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
        "fs/cpu,cpuacct/cpu.cfs_quota_us": "-1\n",
        "fs/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
    }
    root = _tree(tmp_path, files)
    assert usable_cpus(root / "fs", root / "own") == 4


def test_a_period_of_nothing_is_no_limit(tmp_path: Path) -> None:
    files = {"own": "4:cpu:/\n", "fs/cpu/cpu.cfs_quota_us": "400000\n", "fs/cpu/cpu.cfs_period_us": "0\n"}
    root = _tree(tmp_path, files)
    assert usable_cpus(root / "fs", root / "own") == 16
