"""Hundreds of hostile clients against a real balancer: everybody else goes on as if they were not there."""

import resource
import statistics
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import psutil
import pytest
import trio

from tests.e2e.attack import KINDS
from tests.support.apps import LISTEN, pool
from tests.support.running import ROOT, Balancer, running

COUNT = 500
# Seconds that a normal request may take, in the middle of fifteen. On a quiet machine it is one or two milliseconds; without
# protection it is many seconds, or for ever.
SLOW = 0.1
MEMORY = 64 * 2**20  # bytes more than before; five hundred heads and pieces of bodies have their place in it


@asynccontextmanager
async def attack(kind: str, port: int, count: int) -> AsyncIterator[None]:
    """Under attack, from the moment that all connections have been opened."""
    command = [sys.executable, "-m", "tests.e2e.attack", kind, str(port), str(count)]
    process = await trio.lowlevel.open_process(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdout:
        try:
            said = b""
            with trio.fail_after(10):
                while not said.endswith(b"\n"):
                    said += await process.stdout.receive_some()
            yield
            assert process.poll() is None, "the attackers have given up"
        finally:
            await process.stdin.aclose()
            with trio.move_on_after(5):
                await process.wait()
            process.kill()


async def proxy_process(balancer: Balancer) -> psutil.Process:
    (proxy,) = (await balancer.status())["proxies"]
    return psutil.Process(proxy["pid"])


async def normal(balancer: Balancer, requests: int = 15) -> float:
    """Seconds that a request takes on a connection of its own, in the middle of so many."""
    took = []
    for _ in range(requests):
        async with httpx.AsyncClient(trust_env=False, timeout=10) as client:
            start = trio.current_time()
            assert (await client.get(balancer.url + "/")).status_code == 200
            took.append(trio.current_time() - start)
    return statistics.median(took)


async def test_a_normal_request_notices_nothing() -> None:
    async with running("[proxy]\nprocesses = 1\n\n" + LISTEN + pool("web", 2)) as balancer:
        await normal(balancer)
        proxy = await proxy_process(balancer)
        before = proxy.memory_info().rss
        for kind in KINDS:
            async with attack(kind, balancer.port, COUNT):
                await normal(balancer, 5)  # what the attackers' arrival has left to do
                seconds = await normal(balancer)
                grown = proxy.memory_info().rss - before
            assert seconds < SLOW, kind
            assert grown < MEMORY, kind
            # They have gone, and nothing of theirs is left.
            await balancer.until(lambda status: sum(p["connections"] for p in status["proxies"]) < 5)
        assert (await proxy_process(balancer)).pid == proxy.pid
        assert "stuck" not in balancer.text


async def test_the_limits_hold_by_themselves() -> None:
    limits = '[proxy]\nprocesses = 1\nheader_timeout = "1s"\nidle_timeout = "1s"\nbody_timeout = "1s"\n\n'
    async with running(limits + LISTEN + pool("web", 1)) as balancer:
        async with trio.open_nursery() as nursery:
            hold = trio.Event()

            async def besiege(kind: str, *, task_status: trio.TaskStatus[None]) -> None:
                async with attack(kind, balancer.port, 40):
                    task_status.started()
                    await hold.wait()

            for kind in ("slow-head", "header-bomb", "silence", "half-open", "slow-reader"):
                await nursery.start(besiege, kind)
            await balancer.until(lambda status: sum(p["connections"] for p in status["proxies"]) == 0)
            hold.set()
        metrics = await balancer.metrics()
        # Each half head was answered, and each reader who does not read was cut off.
        assert 'balancer_errors_total{pool="",reason="head_timeout"} 80.0' in metrics
        assert 'balancer_errors_total{pool="web",reason="client_gone"} 40.0' in metrics


async def test_out_of_descriptors() -> None:
    """A proxy that can open no more files backs off, says so, and loses nothing that it has."""
    async with running("[proxy]\nprocesses = 1\n\n" + LISTEN + pool("web", 1)) as balancer:
        proxy = await proxy_process(balancer)
        client = httpx.AsyncClient(trust_env=False, timeout=10)
        # Begun before: two seconds of answer.
        async with client, client.stream("GET", balancer.url + "/chunks?n=20&ms=100") as answer:
            limits = proxy.rlimit(resource.RLIMIT_NOFILE)
            proxy.rlimit(resource.RLIMIT_NOFILE, (proxy.num_fds() + 20, limits[1]))
            async with attack("slow-body", balancer.port, 60):
                await balancer.line("out of file descriptors or memory: new connections wait")
                assert len((await answer.aread()).splitlines()) == 20
            proxy.rlimit(resource.RLIMIT_NOFILE, limits)
            assert await normal(balancer, 3) < 2
        assert (await proxy_process(balancer)).pid == proxy.pid


@pytest.mark.parametrize("limit", ['requests = "5/h"\nburst = 5', "connections = 5"])
async def test_limits_per_client(limit: str) -> None:
    text = '[proxy]\nprocesses = 1\n\n[listen.web]\naddress = "127.0.0.1:0"\n[listen.web.limit]\n' + limit + "\n"
    async with running(text + pool("web", 1)) as balancer:
        answers: list[httpx.Response] = []
        hold = trio.Event()

        async def ask(*, task_status: trio.TaskStatus[None]) -> None:
            async with httpx.AsyncClient(trust_env=False) as client:
                answers.append(await client.get(balancer.url + "/"))
                task_status.started()
                await hold.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(8):
                await nursery.start(ask)
            hold.set()
        assert [answer.status_code for answer in answers] == [200] * 5 + [429] * 3
        assert int(answers[-1].headers["retry-after"]) >= 1
        # Live: a reload changes it.
        balancer.config.write_text(balancer.config.read_text().replace(limit, 'deny = ["127.0.0.1"]'))
        assert (await balancer.command("reload")).returncode == 0
        assert (await balancer.get("/")).status_code == 403
