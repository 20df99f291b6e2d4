"""The hard limit of memory: whoever is beyond it is killed, whatever it is doing, and that is a crash."""

import sys

import pytest
import trio

from balancer.settings.model_pool import Limits
from balancer.supervisor import recycle
from balancer.supervisor.memory import excess
from balancer.supervisor.recycle import Recycler
from balancer.supervisor.resources import memory_of
from balancer.supervisor.spec import Launch
from tests.supervisor.ground import Ground, app, ground

LARGE, LIMIT = 80_000_000, 50_000_000
CHILD = f"import os, time; x = os.urandom({LARGE}); print('large', flush=True); time.sleep(60)"
SERVE = "import socket, sys, time; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); time.sleep(60)"
REQUEST = {"method": "GET", "path": "/large", "seconds": 0.5}


def test_the_limit_itself_is_allowed() -> None:
    assert excess(LIMIT, LIMIT) == ""
    assert excess(LIMIT, 0) == ""
    assert excess(LARGE, LIMIT) == "80 MB of memory, its limit is 50 MB"


def limit(g: Ground, memory: int) -> None:
    """Pool web may have so much."""
    settings = g.truth.settings
    pool = settings.pool["web"].model_copy(update={"limits": Limits().model_copy(update={"memory": memory})})
    g.truth.settings = settings.model_copy(update={"pool": {"web": pool}})


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycle, "TURN", 0.05)


@pytest.mark.usefixtures("quick")
async def test_one_that_serves_is_killed_with_its_children_and_replaced() -> None:
    # The memory is a child's: what counts is the group.
    code = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {CHILD!r}]); {SERVE}"
    async with ground() as g, trio.open_nursery() as nursery:
        slot = g.add(Launch(group="", command=(sys.executable, "-c", code, "{port}"), cwd="/"))
        await g.event("ready")
        assert slot.current is not None
        assert slot.current.process is not None
        g.casualties[slot.current.backend.id] = [{"count": 1, "requests": [REQUEST]}]
        nursery.start_soon(Recycler(g.fleet, lambda: False).run)  # also while somebody else changes the pools
        await g.said(1)
        assert memory_of(slot.current.process.pid) > LARGE
        assert not g.kinds("crashed")  # without a limit nobody looks
        limit(g, LIMIT)
        crashed = await g.event("crashed")
        assert crashed.detail["how"] == "SIGKILL (its memory limit)"
        assert crashed.detail["killed"].endswith(" MB of memory, its limit is 50 MB")
        assert crashed.detail["requests"] == [REQUEST]
        assert [suspect["request"] for suspect in crashed.detail["suspects"]] == ["GET /large"]
        assert g.exits[0][1]  # the proxies hear of its own doing
        limit(g, 0)
        await g.event("ready", 2)
        assert slot.restarts["memory"] == 1
        assert "crash" not in slot.restarts
        assert len(slot.history.crashes) >= 1  # which is what delays and holds are counted by
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("quick")
async def test_one_that_drains_is_killed_too() -> None:
    async with ground() as g, trio.open_nursery() as nursery:
        slot = g.add(app("--ballast", str(LARGE)))
        await g.event("ready")
        assert slot.current is not None
        g.undrained.add(slot.current.backend.id)
        g.fleet.begin_removing(slot, "not wanted")
        await g.event("draining")
        limit(g, LIMIT)
        nursery.start_soon(Recycler(g.fleet, lambda: True).run)
        crashed = await g.event("crashed")
        assert crashed.detail["how"] == "SIGKILL (its memory limit)"
        g.release(slot.current.backend.id)
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("boot", ["60", "0"])
async def test_a_start_that_is_too_large_has_failed(boot: str) -> None:
    """Slow: seen while it starts. Quick: when it would be ready, as nobody looks in between."""
    async with ground() as g, trio.open_nursery() as nursery:
        limit(g, LIMIT)
        if boot != "0":
            nursery.start_soon(Recycler(g.fleet, lambda: True).run)
        slot = g.add(app("--ballast", str(LARGE), "--boot-delay", boot))
        failed = await g.event("start failed")
        assert failed.detail["reason"] == "ended with SIGKILL (its memory limit) before it was ready"
        exited = await g.event("exited")
        assert exited.detail["killed"].endswith(" MB of memory, its limit is 50 MB")
        await g.event("restarting")
        assert slot.restarts["memory"] == 1
        assert not g.kinds("ready")
        nursery.cancel_scope.cancel()
