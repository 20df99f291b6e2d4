"""How much memory there is, as the kernel says it, and how much a file wants."""

from pathlib import Path

import pytest

from balancer.settings.load import read
from balancer.settings.memory import Need, Room, needs, peak, room

MIB = 2**20
MEMINFO = (
    f"MemTotal:       {4000 * 1024} kB\nMemFree:  1 kB\nMemAvailable:   {3000 * 1024} kB\nHugePages_Total:       0\n"
)


def _room(folder: Path, files: dict[str, str]) -> Room:
    for name, text in {"meminfo": MEMINFO, **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return room(folder / "fs", folder / "own", folder / "meminfo")


def test_a_machine_without_limits(tmp_path: Path) -> None:
    assert _room(tmp_path, {}) == Room(4000 * MIB, 3000 * MIB)
    unlimited = {"own": "0::/\n", "fs/memory.max": "max\n", "fs/memory.current": "5\n"}
    assert _room(tmp_path, unlimited) == Room(4000 * MIB, 3000 * MIB)
    assert room(tmp_path / "fs", tmp_path / "own", tmp_path / "none") == Room(0, 0)


def test_the_tightest_limit_counts_and_cached_files_are_no_use(tmp_path: Path) -> None:
    files = {
        "own": "0::/a/b\n",
        "fs/a/memory.max": f"{1000 * MIB}\n",
        "fs/a/memory.current": f"{900 * MIB}\n",
        "fs/a/memory.stat": f"anon 1\ninactive_file {300 * MIB}\n",
        "fs/a/b/memory.max": f"{2000 * MIB}\n",
        "fs/a/b/memory.current": f"{100 * MIB}\n",
    }
    assert _room(tmp_path, files) == Room(1000 * MIB, 400 * MIB, is_limited=True)


def test_the_older_kind_of_groups(tmp_path: Path) -> None:
    files = {
        "own": "4:memory:/x\n3:cpu,cpuacct:/\n0::/\n",
        "fs/memory/memory.limit_in_bytes": "9223372036854771712\n",
        "fs/memory/memory.usage_in_bytes": "7\n",
        "fs/memory/x/memory.limit_in_bytes": f"{500 * MIB}\n",
        "fs/memory/x/memory.usage_in_bytes": f"{200 * MIB}\n",
        "fs/memory/x/memory.stat": f"inactive_file 1\ntotal_inactive_file {50 * MIB}\n",
    }
    assert _room(tmp_path, files) == Room(500 * MIB, 350 * MIB, is_limited=True)
    files["fs/memory/x/memory.usage_in_bytes"] = f"{600 * MIB}\n"
    assert _room(tmp_path, files).available == 0


def test_what_a_file_wants() -> None:
    text = """
[listen.web]
address = "127.0.0.1:1"
[[route]]
pool = "web"
[[route]]
pool = "far"
[[route]]
pool = "mixed"
[pool.web]
command = "a"
backends = 8
restart.max_memory = "100MiB"
limits.memory = "200MiB"
rollout.surge = "25%"
[[pool.far.group]]
address = "10.0.0.1:80"
[pool.mixed.rollout]
surge = 5
[[pool.mixed.group]]
command = "b"
backends = 2
[[pool.mixed.group]]
address = "10.0.0.2:80"
"""
    settings = read(text, on_this_machine=False)
    assert needs(settings, {"mixed": [3, 9, 4], "gone": [99]}) == [
        Need("web", 8, 2, measured=0, limit=100 * MIB, hard=200 * MIB),
        Need("mixed", 2, 2, measured=9, limit=0),
    ]


@pytest.mark.parametrize(
    ("counts", "most"),
    [([], 0), ([(4, 1, 10)], 50), ([(4, 1, 10), (2, 2, 7)], 40 + 14 + 14), ([(4, 1, 20), (2, 2, 7)], 80 + 14 + 20)],
)
def test_pools_are_replaced_one_after_another(counts: list[tuple[int, int, int]], most: int) -> None:
    assert peak([(Need("x", backends, surge), each) for backends, surge, each in counts]) == most
