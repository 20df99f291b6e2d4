"""`balancer check` beyond what is wrong: whether there is room for the backends that a file wants."""

import sys
from pathlib import Path

import pytest

from balancer.cli.check import estimate
from balancer.settings.memory import Need, Room
from tests.admin.fake import BACKEND, STATUS, FakeOperations, controlled
from tests.cli.run import MINIMAL, Cli

GIB = 2**30
MIB = 2**20


def test_measured_limited_and_unknown() -> None:
    wanted = [
        Need("web", 4, 1, measured=100 * MIB, limit=500 * MIB),
        Need("api", 2, 2, limit=250 * MIB),
        Need("new", 3, 1),
    ]
    assert list(estimate(wanted, Room(8 * GIB, 5 * GIB))) == [
        "memory: pool web: 4 backends, 5 during a reload; 100M each now, 500MiB each at most (restart.max_memory)",
        "memory: pool api: 2 backends, 4 during a reload; 250MiB each at most (restart.max_memory)",
        # 5 GiB, less 400 and 500 MiB, and the larger surge of 500 MiB, over four.
        "memory: pool new: 3 backends, 4 during a reload; unknown before they run, room for 930M each",
        "memory: 1.4G expected without pool new, 5.0G available, of 8.0G of this machine",
    ]


def test_a_hard_limit_is_the_most_and_not_what_is_expected() -> None:
    wanted = [Need("web", 4, 1, measured=100 * MIB, limit=500 * MIB, hard=GIB), Need("new", 2, 1, hard=GIB)]
    assert list(estimate(wanted, Room(8 * GIB, 5 * GIB))) == [
        "memory: pool web: 4 backends, 5 during a reload; 100M each now, 500MiB each at most (restart.max_memory), "
        "killed above 1GiB each (limits.memory)",
        "memory: pool new: 2 backends, 3 during a reload; unknown before they run, room for 1.5G each, "
        "killed above 1GiB each (limits.memory)",
        "memory: 500M expected without pool new, 5.0G available, of 8.0G of this machine",
        "warning: before limits.memory kills them the backends may take 7.0G of memory, and 5.0G are available",
    ]
    *_, said = estimate([Need("web", 4, 1, limit=GIB), wanted[1]], Room(8 * GIB, 6 * GIB))
    assert said.startswith("warning: before limits.memory kills or restart.max_memory replaces them the backends may")
    assert Need("web", 1, 1, measured=3, limit=2, hard=2).expected == 2


def test_nothing_known_and_nothing_to_say() -> None:
    assert list(estimate([Need("web", 1, 1)], Room(GIB, GIB, True))) == [
        "memory: pool web: 1 backend, 2 during a reload; unknown before they run, room for 512M each",
        "memory: 1.0G available, of 1.0G that the cgroup may have",
    ]
    assert list(estimate([], Room(GIB, GIB))) == []
    assert list(estimate([Need("web", 1, 1)], Room(0, 0))) == []


def test_too_much_is_a_warning_and_what_runs_makes_room() -> None:
    large = [Need("web", 4, 1, measured=GIB)]
    *_, said = estimate(large, Room(8 * GIB, 3 * GIB))
    assert said == "warning: the backends are expected to take 5.0G of memory, and 3.0G are available"
    *_, said = estimate(large, Room(8 * GIB, 3 * GIB), taken=4 * GIB)
    assert said == "memory: 5.0G expected, 7.0G available, of 8.0G of this machine"
    growing = [Need("web", 4, 1, measured=GIB, limit=2 * GIB)]
    *_, said = estimate(growing, Room(8 * GIB, 3 * GIB), taken=4 * GIB)
    assert (
        said
        == "warning: before restart.max_memory replaces them the backends may take 10G of memory, and 7.0G are available"
    )


async def test_the_running_balancer_is_asked(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["balancer.settings.memory"], "room", lambda: Room(8 * GIB, 6 * GIB))
    operations = FakeOperations()
    backends = [BACKEND, {**BACKEND, "memory_bytes": 80 * MIB}, {**BACKEND, "memory_bytes": None}]
    operations.status_value = {**STATUS, "pools": [{"name": "web", "backends": backends}]}
    async with controlled(operations, config.with_suffix(".sock")):
        result = await cli.later("check", "-c", config)
    assert (result.code, result.out) == (0, "ok\n")
    assert result.err.splitlines() == [
        "memory: pool web: 1 backend, 2 during a reload; 80M each now",
        "memory: 160M expected, 6.1G available, of 8.0G of this machine",
    ]
    result = await cli.later("check", "-c", config)
    assert "unknown before they run, room for 3.0G each" in result.err


def test_a_crowd_is_said_here_too(cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["balancer.settings.cpus"], "usable_cpus", lambda: 2)
    config.write_text(MINIMAL + "backends = 4\n")
    assert "CPU" not in cli("check", "-c", config).err
    config.write_text(MINIMAL + "backends = 5\n")
    result = cli("check", "-c", config)
    assert "warning: 5 backends on 2 CPUs: more than 2 for each" in result.err
    assert (result.code, result.out) == (0, "ok\n")
