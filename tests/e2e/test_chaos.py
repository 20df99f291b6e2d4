"""Everything that can happen to backends, at random and under load, and at the end all is as it should be.

A quarter of a minute in the suite; two minutes with BALANCER_CHAOS_SECONDS=120. BALANCER_CHAOS_SEED repeats a run's decisions.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import psutil
import pytest
import trio

from tests.support.apps import LISTEN
from tests.support.running import Balancer, running

SECONDS = float(os.environ.get("BALANCER_CHAOS_SECONDS", "15"))
SEED = int(os.environ.get("BALANCER_CHAOS_SEED", str(random.randrange(10**6))))
BACKENDS = 6
APP = Path(__file__).with_name("chaos_app.py")
MIB = 1024 * 1024

CONFIG = """{listen}[proxy]
processes = 2
shutdown_timeout = "5s"

[pool.web]
command = {command}
backends = {backends}
retries = 5
retry_budget = "100%"
queue = 1000
queue_timeout = "25s"
[pool.web.ready]
timeout = "8s"
[pool.web.health]
path = "/healthz"
interval = "300ms"
timeout = "1s"
fall = 2
rise = 1
heartbeat = "2s"
[pool.web.eject]
failures = 0
[pool.web.restart]
delay = "50ms"
max_delay = "300ms"
healthy_after = "1s"
max_memory = "90MiB"
[pool.web.stop]
drain_timeout = "4s"
timeout = "1s"
[pool.web.rollout]
surge = 2
"""


class Broken(Exception):
    """A request that got no answer."""


class Client:
    """Requests one after another on a kept connection; what became of each is counted."""

    def __init__(self, balancer: Balancer, name: int, score: "Score") -> None:
        self.port = balancer.port
        self.name = name
        self.score = score
        self.stream: trio.SocketStream | None = None
        self.buffer = b""

    async def run(self, stop: trio.Event) -> None:
        """Three GETs to a POST."""
        number = 0
        while not stop.is_set():
            number += 1
            if number % 4:
                await self.count("GET", f"/page/{number % 7}?ms={(number * 7) % 40}")
            else:
                id = f"{self.name}-{number}"  # noqa: A001
                if await self.count("POST", f"/do?id={id}"):
                    self.score.posted.add(id)
            with trio.move_on_after(0.02):
                await stop.wait()
        await self.close()

    async def count(self, method: str, target: str) -> bool:
        """Whether it succeeded."""
        began = trio.current_time()
        try:
            with trio.fail_after(30):
                status, why, body = await self.ask(method, target)
            if status == 200 and json.loads(body) != [method, target]:
                raise Broken("the answer to another request")
            result = f"{method} {status}{why}"
        except (OSError, trio.BrokenResourceError, trio.TooSlowError, Broken) as error:
            result = f"{method} {type(error).__name__} {error}"
            await self.close()
        self.score.results[result] += 1
        self.score.slowest = max(self.score.slowest, trio.current_time() - began)
        if result not in ("GET 200", "POST 200"):
            self.score.failures.append(
                f"{result} {target} at {time.time() % 60:.3f} after {trio.current_time() - began:.3f} s"
            )
        return result.endswith(" 200")

    async def ask(self, method: str, target: str) -> tuple[int, str, bytes]:
        """Status, why it is no success, and body."""
        if self.stream is None:
            self.stream = await trio.open_tcp_stream("127.0.0.1", self.port)
            self.buffer = b""
        length = b"Content-Length: 0\r\n" if method == "POST" else b""
        await self.stream.send_all(f"{method} {target} HTTP/1.1\r\nHost: chaos\r\n".encode() + length + b"\r\n")
        while b"\r\n\r\n" not in self.buffer:
            await self.more()
        head, _, self.buffer = self.buffer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        size = int(fields[b"content-length"])
        while len(self.buffer) < size:
            await self.more()
        body, self.buffer = self.buffer[:size], self.buffer[size:]
        if fields.get(b"connection") == b"close":
            await self.close()
        why = fields.get(b"proxy-status", b"").decode().partition("details=")[2]
        return int(head.split(b" ", 2)[1]), f" {why}" if why else "", body

    async def more(self) -> None:
        assert self.stream is not None
        data = await self.stream.receive_some(65536)
        if not data:
            raise Broken("closed")
        self.buffer += data

    async def close(self) -> None:
        stream, self.stream = self.stream, None
        if stream is not None:
            await stream.aclose()


class Score:
    """What happened."""

    def __init__(self) -> None:
        self.began = trio.current_time()
        self.results: Counter[str] = Counter()
        self.failures: list[str] = []
        self.posted: set[str] = set()
        self.slowest = 0.0
        self.acts: Counter[str] = Counter()


class Chaos:
    """Does harm, one act after another."""

    def __init__(self, balancer: Balancer, score: Score, bad_start: Path) -> None:
        self.balancer = balancer
        self.score = score
        self.bad_start = bad_start
        self.random = random.Random(SEED)
        self.acts: list[Callable[[], Awaitable[None]]] = [
            *[self.kill] * 4, *[self.stop] * 2, *[self.die] * 3, *[self.swell] * 2, self.fail_starts, self.reload, self.scale,
        ]  # fmt: skip

    async def run(self) -> None:
        while True:
            act = self.random.choice(self.acts)
            self.score.acts[act.__name__] += 1
            await act()
            await trio.sleep(self.random.uniform(0.1, 0.5))

    async def victim(self) -> int:
        """The pid of some backend."""
        pids = [b["pid"] for b in await self.balancer.backends("web") if b["pid"]]
        return self.random.choice(pids) if pids else 0

    async def send(self, number: int) -> None:
        if pid := await self.victim():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                pass

    async def kill(self) -> None:
        await self.send(signal.SIGKILL)

    async def stop(self) -> None:
        await self.send(signal.SIGSTOP)

    async def die(self) -> None:
        await self.once("/die")

    async def swell(self) -> None:
        await self.once("/swell?mb=60")

    async def once(self, target: str) -> None:
        """A request whose own fate is of no interest."""
        client = Client(self.balancer, -1, Score())
        with trio.move_on_after(5):
            await client.count("GET", target)
        await client.close()

    async def fail_starts(self) -> None:
        self.bad_start.touch()
        await trio.sleep(0.5)
        self.bad_start.unlink()

    async def reload(self) -> None:
        self.balancer.signal(signal.SIGHUP)

    async def scale(self) -> None:
        await self.balancer.command("scale", "web", str(self.random.randint(4, 8)))


def sizes(pids: list[int]) -> list[tuple[int, float]]:
    """(descriptors, MiB) of each."""
    processes = [psutil.Process(pid) for pid in pids]
    return [(p.num_fds(), round(p.memory_info().rss / MIB, 1)) for p in processes]


async def settled(balancer: Balancer, seconds: float) -> None:
    """Until six backends take requests, and there are no others."""
    await balancer.until(
        lambda s: [b["takes_requests"] for b in s["pools"][0]["backends"]] == [True] * BACKENDS, seconds
    )


@pytest.mark.timeout(SECONDS + 90)
async def test_whatever_happens_to_backends(tmp_path: Path) -> None:
    done, bad_start = tmp_path / "done", tmp_path / "bad-start"
    command = json.dumps([sys.executable, str(APP), str(done), str(bad_start)])
    text = CONFIG.format(listen=LISTEN, command=command, backends=BACKENDS)
    async with running(text, patience=30) as balancer:
        score = Score()
        stop = trio.Event()
        pids = [balancer.pid, *(proxy["pid"] for proxy in (await balancer.status())["proxies"])]
        async with trio.open_nursery() as nursery:
            for name in range(12):
                nursery.start_soon(Client(balancer, name, score).run, stop)
            await trio.sleep(1.5)  # so much is normal
            await balancer.metrics()
            before = sizes(pids)
            with trio.move_on_after(SECONDS):
                await Chaos(balancer, score, bad_start).run()
            bad_start.unlink(missing_ok=True)
            during = Counter(line.split()[4] for line in balancer.lines if " crashed " in line)
            scaled = await balancer.command("scale", "web", str(BACKENDS))
            await settled(balancer, 30)
            stop.set()
        executed = Counter(done.read_text().split())
        summary = (
            f"seed {SEED}: {score.results}, slowest {score.slowest:.2f} s, acts {score.acts}, crashes {during.total()}, "
            f"executed {executed.total()}, scale {scaled.returncode}"
        )
        failures = "\n".join(score.failures[:50])
        print(summary)
        assert not [f for f in score.failures if f.startswith("GET")], (
            f"{summary}\n{failures}\n{balancer.text[-20000:]}"
        )
        assert [id for id, count in executed.items() if count > 1] == [], summary  # noqa: A001
        assert score.posted <= executed.keys(), summary
        # The same processes as before, and no more of them than there should be.
        assert [balancer.pid, *(proxy["pid"] for proxy in (await balancer.status())["proxies"])] == pids
        await balancer.until(lambda s: len(balancer.processes()) == len(pids) - 1 + BACKENDS, 15)
        after = sizes(pids)
        print(f"descriptors and MiB before {before}, after {after}")
        for (files, memory), (files_then, memory_then) in zip(after, before, strict=True):
            assert files <= files_then + 30, (before, after)
            assert memory <= memory_then + 30, (before, after)
