"""The running balancer of the tests: it answers, tells, and what it would leave behind is seen."""

import os
import signal

import psutil
import pytest
import trio

from tests.support.apps import LISTEN, pool
from tests.support.load import load
from tests.support.running import environment, is_marked, running


async def test_it_runs_and_is_seen() -> None:
    async with running(LISTEN + pool("web", 2)) as balancer:
        assert (await balancer.get("/")).json()["backend"].startswith("web-")
        backends = await balancer.backends("web")
        family = {process.pid for process in balancer.processes()}
        assert {backend["pid"] for backend in backends} <= family
        async with load(balancer.port, rate=300) as traffic:
            await traffic.more(60)
        assert not traffic.failures
        assert len(traffic.backends) == 2
        assert (await balancer.command("status", "--json")).returncode == 0
    assert not any(psutil.pid_exists(pid) for pid in family)


async def test_what_does_not_start_says_why() -> None:
    with pytest.raises(AssertionError, match="exit code 2") as caught:
        async with running(LISTEN + pool("web", 1, more="weigth = 3")):
            pass
    assert "did you mean 'weight'" in str(caught.value)


async def test_the_mark_is_inherited() -> None:
    """Else no orphan would ever be found."""
    async with running(LISTEN + pool("web", 1)) as balancer:
        answer = await balancer.get("/env?name=BALANCER_TEST_RUN")
        (backend,) = await balancer.backends("web")
        assert is_marked(backend["pid"], answer.text)
        assert not is_marked(os.getpid(), answer.text)
        balancer.signal(signal.SIGTERM)
        assert await balancer.wait() == 0


async def test_an_orphan_is_found_and_ended() -> None:
    with pytest.raises(AssertionError, match="left behind"):
        async with running(LISTEN + pool("web", 1)) as balancer:
            orphan = await trio.lowlevel.open_process(["sleep", "60"], env=environment(balancer.mark))
    with trio.fail_after(5):
        assert await orphan.wait() == -signal.SIGKILL
