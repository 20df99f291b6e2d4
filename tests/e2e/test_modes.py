"""mode = "shared" and mode = "pass" with real programs: who accepts, who gets what, and that a reload loses no connection."""

import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import trio

from tests.support.ports import free_port
from tests.support.programs import find
from tests.support.running import ROOT, Balancer, running

APPS = ROOT / "tests" / "apps"
NEEDS_NODE = pytest.mark.needs("node", why="connections and sockets handed to Node.js programs")
GRACEFUL = 'stop = {message = true, signal = "SIGWINCH", timeout = "5s"}\nready.when = "message"\n'


def text(mode: str, *command: str, backends: int = 4, more: str = "", port: int = 0) -> str:
    """A pool whose backends take connections themselves."""
    return f"""[listen.web]
address = "127.0.0.1:{port}"

[proxy]
processes = 1

[pool.web]
command = {json.dumps(command)}
backends = {backends}
mode = "{mode}"
{more}
"""


def node(app: str) -> list[str]:
    """A command."""
    return [str(find("node")), str(APPS / app)]


async def answers(balancer: Balancer, count: int) -> list[str]:
    """Which backend answers, over so many connections, one after another."""
    async with httpx.AsyncClient(timeout=10, trust_env=False, headers={"Connection": "close"}) as client:
        return [name_in((await client.get(balancer.url)).text) for _ in range(count)]


def name_in(body: str) -> str:
    """The backend that gave this answer."""
    return str(json.loads(body)["backend"]) if body.startswith("{") else body


@asynccontextmanager
async def connecting(balancer: Balancer) -> AsyncIterator[Counter[str]]:
    """Four clients that connect, ask and leave for as long as the block runs; answers by backend, failures by "failed: …"."""
    found: Counter[str] = Counter()

    async def client() -> None:
        async with httpx.AsyncClient(timeout=10, trust_env=False, headers={"Connection": "close"}) as client:
            while True:
                try:
                    found[name_in((await client.get(balancer.url)).text)] += 1
                except httpx.HTTPError as error:
                    found[f"failed: {error!r}"] += 1

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(client)
        yield found
        nursery.cancel_scope.cancel()


async def reload_loses_nothing(balancer: Balancer) -> None:
    """Reload under load."""
    async with connecting(balancer) as found:
        done = await balancer.command("reload")
        assert done.returncode == 0, done.stderr + balancer.text
    assert found.total() > 4
    assert not [word for word in found if word.startswith("failed")], (found, balancer.text)
    assert {b["generation"] for b in await balancer.backends("web")} == {2}


@NEEDS_NODE
async def test_shared() -> None:
    config = text("shared", *node("hello.js"), more=GRACEFUL + 'env.WAY = "socket"')
    async with running(config, patience=60) as balancer:
        assert set(await answers(balancer, 10)) <= {"web-0", "web-1", "web-2", "web-3"}
        # It has no address but the listener's.
        assert {b["address"] for b in await balancer.backends("web")} == {f"127.0.0.1:{balancer.port}"}
        await reload_loses_nothing(balancer)


@NEEDS_NODE
async def test_shared_with_a_program_that_listens_itself() -> None:
    port = free_port()
    more = f'handover = "node-cluster"\nenv.LIKED_PORT = "{port}"'
    async with running(text("shared", *node("cluster.js"), port=port, more=more), patience=60) as balancer:
        assert set(await answers(balancer, 10)) <= {"web-0", "web-1", "web-2", "web-3"}
        await reload_loses_nothing(balancer)


@NEEDS_NODE
async def test_shared_takes_only_the_listeners_port() -> None:
    more = 'handover = "node-cluster"\nrestart.delay = "5s"'
    async with running(text("shared", *node("cluster.js"), backends=1, more=more), ready=False) as balancer:
        refused = await balancer.line("web-0 listen refused")
        assert f"must be that of the listener: {balancer.port}" in refused


@NEEDS_NODE
async def test_pass_goes_round_also_when_one_dies() -> None:
    config = text("pass", *node("hello.js"), more=GRACEFUL + 'env.WAY = "pass"\nrestart.delay = "10s"')
    async with running(config, patience=60) as balancer:
        said = await answers(balancer, 12)
        assert said[:4] == said[4:8] == said[8:]
        assert sorted(said[:4]) == ["web-0", "web-1", "web-2", "web-3"]
        os.kill((await balancer.backends("web"))[1]["pid"], signal.SIGKILL)
        await balancer.line("web-1 crashed")
        assert sorted(await answers(balancer, 6)) == ["web-0", "web-0", "web-2", "web-2", "web-3", "web-3"]
        connections = 'balancer_upstream_connections_total{backend="web-0",pool="web",reused="false"}'
        assert connections in await balancer.metrics()


@NEEDS_NODE
async def test_pass_survives_the_death_of_its_proxy_and_reloads() -> None:
    config = text("pass", *node("hello.js"), backends=2, more=GRACEFUL + 'env.WAY = "pass"')
    async with running(config, patience=60) as balancer:
        os.kill((await balancer.status())["proxies"][0]["pid"], signal.SIGKILL)
        assert sorted(await answers(balancer, 4)) == ["web-0", "web-0", "web-1", "web-1"]
        await reload_loses_nothing(balancer)


@NEEDS_NODE
async def test_pass_to_programs_that_listen_themselves() -> None:
    config = text("pass", *node("cluster.js"), backends=2, more='handover = "node-cluster"')
    async with running(config, patience=60) as balancer:
        assert sorted(await answers(balancer, 4)) == ["web-0", "web-0", "web-1", "web-1"]
        await reload_loses_nothing(balancer)


@pytest.mark.parametrize("how", ["thread", "asyncio", "trio"])
async def test_pass_to_python(how: str) -> None:
    more = f'ready.when = "message"\nenv.PYTHONPATH = "{ROOT}"'
    async with running(text("pass", sys.executable, str(APPS / "passed.py"), how, more=more)) as balancer:
        assert sorted(await answers(balancer, 8)) == sorted(["web-0", "web-1", "web-2", "web-3"] * 2)
