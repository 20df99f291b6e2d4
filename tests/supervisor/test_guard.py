"""No orphans: what a process of ours started in turn dies with us too, however we die."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import psutil
import pytest
import trio

from balancer.supervisor.guard import Guard

PARENT = """
import subprocess, sys, time
from balancer.supervisor.guard import Guard
guard = Guard()
for ends in (True, False):
    shell = subprocess.Popen(["sh", "-c", "sleep 600 & echo $!; wait"], process_group=0, stdout=subprocess.PIPE, text=True)
    guard.add(shell.pid)
    print(shell.stdout.readline().strip(), flush=True)
    if ends:
        guard.remove(shell.pid)
print(guard.pid, flush=True)
time.sleep(600)
"""


def start(*command: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, process_group=0, stdout=subprocess.PIPE, text=True)


async def until(holds: Callable[[], bool]) -> None:
    with trio.fail_after(5):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.01)  # processes of another parent: there is no event to wait for


def has_ended(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


async def test_a_killed_supervisor_takes_the_groups_that_it_had_with_it_and_no_other() -> None:
    with start(sys.executable, "-c", PARENT) as parent:
        assert parent.stdout is not None
        removed, kept, guard = (int(parent.stdout.readline()) for _ in range(3))
        # As from a terminal, and as from whoever stops everything of that name.
        os.kill(guard, signal.SIGINT)
        os.kill(guard, signal.SIGTERM)
        parent.kill()
    try:
        await until(lambda: has_ended(kept) and has_ended(guard))
        assert not has_ended(removed)
    finally:
        os.kill(removed, signal.SIGKILL)


async def test_a_guard_that_was_killed_or_stopped_has_a_successor_that_knows_all() -> None:
    guard = Guard()
    with start("sleep", "600") as first:
        guard.add(first.pid)
        killed = guard.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        await until(lambda: has_ended(killed))
        guard.remove(0)
        assert guard.pid not in (None, killed)
        guard.close()
        assert first.wait(5) == -signal.SIGKILL


def test_a_guard_that_cannot_be_started_does_not_end_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    made = Guard()
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    made.add(1_000_000)
    assert made.pid is None
