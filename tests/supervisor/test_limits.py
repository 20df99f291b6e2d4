"""What a process may use is in force before it runs; what cannot be had is said in a sentence."""

import json
import os
import pwd
import resource
import subprocess
import sys
from typing import Any

import psutil
import pytest
import trio

from balancer.supervisor.limits import UNLIMITED, CannotLimit, LimitsSpec, crowd, preparation
from balancer.supervisor.spec import Launch
from tests.supervisor.ground import QUICK, ROOT, ground
from tests.supervisor.test_backend import gone

SHOW = """
import json, os, resource as r
old = os.umask(0)
limits = {name: r.getrlimit(getattr(r, "RLIMIT_" + name)) for name in ("NOFILE", "CORE", "AS", "CPU")}
nice, cpus = os.getpriority(os.PRIO_PROCESS, 0), sorted(os.sched_getaffinity(0))
print(json.dumps({**limits, "nice": nice, "umask": old, "cpus": cpus, "uid": os.getuid()}))
"""
# By the shell: another user may not be able to reach this interpreter.
SHOW_USER = 'grep -E "^(Uid|Gid|Groups):" /proc/self/status | tr "\\t\\n" "  "; echo "$HOME" "$USER" $(nice)'


async def shown(launch: Launch, index: int = 0) -> dict[str, Any]:
    """What a process started so says about itself."""
    async with ground() as g:
        g.add(launch, QUICK, index)
        await g.event("start failed")
        await g.event("exited")
        found: dict[str, Any] = json.loads(g.lines[0].text)
        return found


def show(limits: LimitsSpec) -> Launch:
    return Launch(group="", command=(sys.executable, "-c", SHOW), limits=limits)


async def test_all_of_them_are_in_force() -> None:
    first = sorted(os.sched_getaffinity(0))[0]
    spec = LimitsSpec(256, 0, 4 << 30, 7, os.getpriority(os.PRIO_PROCESS, 0) + 3, 0o027, (first, 4000))
    found = await shown(show(spec))
    assert found["NOFILE"] == [256, 256]
    assert found["CORE"] == [0, 0]
    assert found["AS"] == [4 << 30] * 2
    assert found["CPU"] == [7, 12], "SIGXCPU first, SIGKILL later"
    assert (found["nice"], found["umask"], found["cpus"]) == (spec.nice, 0o027, [first])


async def test_without_any_it_is_as_the_balancer_was_started() -> None:
    found = await shown(show(LimitsSpec()))
    assert found["cpus"] == sorted(os.sched_getaffinity(0))
    assert found["NOFILE"][1] == resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    assert found["uid"] == os.getuid()


async def test_spread_gives_each_its_cpu() -> None:
    cpus = sorted(os.sched_getaffinity(0))
    for index in range(3):
        assert (await shown(show(LimitsSpec(is_spread=True)), index))["cpus"] == [cpus[index % len(cpus)]]


async def test_another_user_comes_with_all_groups_its_home_and_what_only_root_may_give() -> None:
    launch = Launch(group="", command=("/bin/sh", "-c", SHOW_USER), user="nobody", limits=LimitsSpec(nice=-2))
    async with ground() as g:
        g.add(launch)
        failed = await g.event("start failed")
        if os.geteuid():
            assert failed.detail["reason"] == "limits.nice -2 is more than the balancer's own; only root may have that"
            return
        await g.event("exited")
        said = g.lines[0].text.split()
    user = pwd.getpwnam("nobody")
    groups = [str(group) for group in sorted(set(os.getgrouplist("nobody", user.pw_gid)))]
    expected = ["Uid:", *[str(user.pw_uid)] * 4, "Gid:", *[str(user.pw_gid)] * 4, "Groups:", *groups]
    assert said[: len(expected)] == expected
    assert said[len(expected) : len(expected) + 2] == [user.pw_dir, "nobody"]
    assert said[-1] == "-2"


async def test_the_death_of_the_supervisor_reaches_another_user_too() -> None:
    """The kernel forgets PR_SET_PDEATHSIG at setuid: it must be set afterwards."""
    user = "" if os.geteuid() else "nobody"
    script = "import sys;from balancer.supervisor.spawn import start;"
    script += f"print(start(['sleep','1000'],env={{'PATH':'/usr/bin:/bin'}},cwd='/',user={user!r}).pid,flush=True);sys.stdin.read()"
    parent = await trio.lowlevel.open_process(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    )
    assert parent.stdout is not None
    pid = int(await parent.stdout.receive_some(100))
    assert psutil.Process(pid).uids().real == (os.getuid() if not user else pwd.getpwnam(user).pw_uid)
    parent.kill()
    await parent.wait()
    await gone(pid)


def test_what_cannot_be_had_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(resource, "getrlimit", lambda _: (10, 100))
    with pytest.raises(CannotLimit, match=r"limits\.open_files is above the system's hard limit of 100; only root"):
        preparation(LimitsSpec(open_files=101), 0)
    with pytest.raises(CannotLimit, match=r"limits\.core"):
        preparation(LimitsSpec(core=UNLIMITED), 0)
    with pytest.raises(CannotLimit, match=r"limits\.nice -5"):
        preparation(LimitsSpec(nice=-5), 0)
    with pytest.raises(CannotLimit, match=r"limits\.cpus names no CPU"):
        preparation(LimitsSpec(cpus=(9999,)), 0)
    preparation(LimitsSpec(open_files=100, cpu=97), 0)


def test_a_crowd_is_more_than_two_for_each_cpu() -> None:
    assert crowd(8, 4) == ""
    assert crowd(9, 4).startswith("9 backends on 4 CPUs")
    assert crowd(3, 1).startswith("3 backends on 1 CPU:")
