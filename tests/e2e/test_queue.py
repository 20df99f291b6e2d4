"""One exact line in front of a pool: how long it takes, who leaves it, what it says when it is full."""

import math
import os
import re
import signal
from pathlib import Path

import h11
import pytest
import trio

from tests.support.apps import LISTEN, pool
from tests.support.asking import Reply, ask, ask_all
from tests.support.running import Balancer, running


def proxies(count: int) -> str:
    return f"[proxy]\nprocesses = {count}\n\n"


def metric(text: str, name: str, **labels: str) -> float:
    """The sum of all series of that name that have these labels."""
    total = 0.0
    for series, value in re.findall(rf"^{name}({{.*}})? (\S+)$", text, re.M):
        if all(f'{key}="{wanted}"' in series for key, wanted in labels.items()):
            total += float(value)
    return total


async def until_metric(balancer: Balancer, name: str, value: float) -> None:
    with trio.fail_after(balancer.patience):
        while True:
            if metric(await balancer.metrics(), name) == value:
                return
            await trio.sleep(0.02)  # another process's numbers: there is no event to wait for


async def ask_in_turn(port: int, count: int) -> None:
    for _ in range(count):
        assert (await ask(port, "/slow?ms=100")).status == 200


@pytest.mark.parametrize("count", [1, 2])
async def test_forty_requests_on_four_single_places_take_ten_turns(count: int) -> None:
    async with running(LISTEN + proxies(count) + pool("web", 4, more="concurrency = 1")) as balancer:
        began = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(ask_in_turn, balancer.port, 10)
        without_a_line = trio.current_time() - began
        began = trio.current_time()
        replies = await ask_all(balancer.port, 40, "/slow?ms=100")
        took = trio.current_time() - began
        assert [reply.status for reply in replies] == [200] * 40
        # 1.0 s is what it can be; on a quiet machine it is less than 1.1, and so is the time of four that never wait for each other.
        assert 1.0 <= took < 1.5 * without_a_line, (took, without_a_line)
        status = await balancer.until(lambda s: sum(b["requests_total"] for b in s["pools"][0]["backends"]) == 80)
        assert all(backend["requests_total"] >= 12 for backend in status["pools"][0]["backends"])


async def test_requests_wait_while_the_only_backend_is_restarted(tmp_path: Path) -> None:
    gate = tmp_path / "go"
    gate.touch()
    text = LISTEN + pool("web", 1, "--boot-until", str(gate), more="concurrency = 2")
    async with running(text) as balancer:
        (backend,) = await balancer.backends("web")
        gate.unlink()
        os.kill(backend["pid"], signal.SIGKILL)
        replies: list[Reply] = []

        async def one() -> None:
            replies.append(await ask(balancer.port))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(one)
            await until_metric(balancer, "balancer_queue_length", 20)
            gate.touch()
        assert [reply.status for reply in replies] == [200] * 20, [
            r.body for r in replies if r.status != 200
        ] + balancer.lines[-12:]
        assert metric(await balancer.metrics(), "balancer_queue_seconds_count", pool="web") >= 18


async def test_when_nobody_comes_soon_it_is_said_how_long_that_takes() -> None:
    text = LISTEN + pool("web", 1, "--boot-delay", "3.2", more='queue_timeout = "2s"')
    async with running(text) as balancer:
        (backend,) = await balancer.backends("web")
        os.kill(backend["pid"], signal.SIGKILL)
        await balancer.line("crashed")
        reply = await ask(balancer.port)
        assert reply.status == 503
        # As long as its last start took, less the moment that has passed since.
        took = float((await balancer.line("web-0 ready seconds=")).partition("seconds=")[2].split()[0])
        assert 2 < int(reply.one("retry-after")) <= math.ceil(took) + 1
        assert reply.seconds < 2, "it did not wait for what cannot come in time"


async def test_a_full_line_says_so_and_one_who_left_is_not_in_it() -> None:
    text = LISTEN + pool("web", 1, more="concurrency = 1\nqueue = 2")
    async with running(text) as balancer, trio.open_nursery() as nursery:
        answers: list[Reply] = []
        slow = f"/slow?until={balancer.folder}/go"

        async def wait_in_line() -> None:
            answers.append(await ask(balancer.port, slow))

        async with trio.open_nursery() as leaving:
            nursery.start_soon(wait_in_line)
            await balancer.until(lambda s: s["pools"][0]["backends"][0]["in_flight"] == 1)
            for _ in range(2):
                leaving.start_soon(ask, balancer.port, slow)
            await until_metric(balancer, "balancer_queue_length", 2)
            refused = await ask(balancer.port)
            assert refused.status == 503
            assert 'details="queue_full"' in refused.one("proxy-status")
            assert int(refused.one("retry-after")) >= 1
            leaving.cancel_scope.cancel()
        await until_metric(balancer, "balancer_queue_length", 0)
        (balancer.folder / "go").touch()
        assert (await ask(balancer.port)).status == 200
        await balancer.until(lambda s: s["pools"][0]["backends"][0]["requests_total"] == 2)
        assert [answer.status for answer in answers] == [200]
        assert metric(await balancer.metrics(), "balancer_requests_total", code="499") == 2


async def test_places_of_proxies_that_are_killed_come_back() -> None:
    text = LISTEN + proxies(2) + pool("web", 2, more="concurrency = 1")
    async with running(text) as balancer:

        async def break_off() -> None:
            with pytest.raises((trio.BrokenResourceError, h11.RemoteProtocolError)):
                await ask(balancer.port, "/slow?ms=60000")

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(break_off)
            status = await balancer.until(lambda s: [b["in_flight"] for b in s["pools"][0]["backends"]] == [1, 1])
            for proxy in status["proxies"]:
                os.kill(proxy["pid"], signal.SIGKILL)
        replies = await ask_all(balancer.port, 8)
        assert [reply.status for reply in replies] == [200] * 8
        await balancer.until(lambda s: [b["in_flight"] for b in s["pools"][0]["backends"]] == [0, 0])
