"""config/examples/redis-counter against a real Redis: the count holds through reloads, deaths of backends, and Redis away."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.ports import free_port
from tests.support.programs import find
from tests.support.running import ROOT, Balancer, running

pytestmark = pytest.mark.needs("redis-server", why="the example with a counter in Redis")

EXAMPLE = ROOT / "config" / "examples" / "redis-counter"


class Redis:
    """A server of its own, with nothing kept on disk."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._folder = folder
        self.start()

    def start(self) -> None:
        """Empty."""
        command = [
            str(find("redis-server")),
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            str(self._folder),
        ]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL)

    def stop(self) -> None:
        """At once."""
        self._process.kill()
        self._process.wait()


class Counting:
    """Clients that POST one after another; numbers: what the answers said; failed: requests that may or may not have counted."""

    def __init__(self, balancer: Balancer) -> None:
        self.numbers: list[int] = []
        self.failed = 0
        self._balancer = balancer
        self._changed = trio.Event()

    async def client(self, stopping: trio.Event) -> None:
        """Until told to stop; the request in progress is finished first."""
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            while not stopping.is_set():
                try:
                    answer = await client.post(self._balancer.url)
                except httpx.HTTPError:
                    self.failed += 1
                else:
                    if answer.status_code == 200:
                        self.numbers.append(int(answer.text.split()[0]))
                    else:
                        self.failed += 1
                changed, self._changed = self._changed, trio.Event()
                changed.set()

    async def more(self, count: int) -> None:
        """So many answers from now on."""
        goal = len(self.numbers) + count
        with trio.fail_after(20):
            while len(self.numbers) < goal:
                await self._changed.wait()


@asynccontextmanager
async def counting(balancer: Balancer) -> AsyncIterator[Counting]:
    made, stopping = Counting(balancer), trio.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(made.client, stopping)
        yield made
        stopping.set()


@asynccontextmanager
async def example(tmp_path: Path) -> AsyncIterator[tuple[Balancer, Redis]]:
    """The sample file, but for its addresses and the interpreter."""
    redis = Redis(tmp_path)
    text = (EXAMPLE / "cluster.toml").read_text()
    text = text.replace('address = "127.0.0.1:8080"', 'address = "127.0.0.1:0"').replace(
        "127.0.0.1:6379", f"127.0.0.1:{redis.port}"
    )
    text = text.replace('"python counter.py"', f'["{sys.executable}", "{EXAMPLE / "counter.py"}"]')
    text += 'interval = "200ms"\n'
    try:
        async with running(text) as balancer:
            yield balancer, redis
    finally:
        redis.stop()


async def number(balancer: Balancer) -> int:
    """As a GET shows it."""
    found = re.match(r"(\d+) from counter-\d", (await balancer.get()).text)
    assert found is not None
    return int(found[1])


async def test_every_count_counts_once_through_reloads_and_deaths(tmp_path: Path) -> None:
    async with example(tmp_path) as (balancer, _):
        assert await number(balancer) == 0
        async with counting(balancer) as clients:
            await clients.more(50)
            done = await balancer.command("reload")
            assert done.returncode == 0, done.stderr
            await clients.more(50)
        assert clients.failed == 0
        assert sorted(clients.numbers) == list(range(1, len(clients.numbers) + 1))
        assert await number(balancer) == len(clients.numbers)

        before = len(clients.numbers)
        async with counting(balancer) as clients:
            for index in (0, 2):
                await clients.more(30)
                os.kill((await balancer.backends("counter"))[index]["pid"], signal.SIGKILL)
                await balancer.line(f"counter-{index} crashed")
            await clients.more(30)
        # No answer twice; what is between the answers and the count are requests whose backend died under them.
        assert len(set(clients.numbers)) == len(clients.numbers)
        counted = await number(balancer) - before
        assert len(clients.numbers) <= counted <= len(clients.numbers) + clients.failed
        assert clients.failed <= 8


async def test_without_redis_nobody_takes_requests_and_all_come_back(tmp_path: Path) -> None:
    async with example(tmp_path) as (balancer, redis):
        redis.stop()
        await balancer.until(lambda s: not any(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert (await balancer.get()).status_code == 503
        redis.start()
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert await number(balancer) == 0
        assert {b["generation"] for b in await balancer.backends("counter")} == {1}
