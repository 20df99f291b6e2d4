"""One exact line in front of a pool: how long it takes, who leaves it, what it says when it is full (FIELD F4)."""

import os
import re
import signal

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


@pytest.mark.parametrize("count", [1, 2])
async def test_forty_requests_on_four_single_places_take_ten_turns(count: int) -> None:
    async with running(LISTEN + proxies(count) + pool("web", 4, more="concurrency = 1")) as balancer:
        started = trio.current_time()
        replies = await ask_all(balancer.port, 40, "/slow?ms=100")
        took = trio.current_time() - started
        assert [reply.status for reply in replies] == [200] * 40
        # 1.0 s is what it can be; on a quiet machine it is less than 1.1.
        assert 1.0 <= took < 1.6, took
        assert {backend["requests_total"] for backend in await balancer.backends("web")} <= set(range(8, 13))


async def test_requests_wait_while_the_only_backend_is_restarted() -> None:
    text = LISTEN + pool("web", 1, "--boot-delay", "0.4", more="concurrency = 2")
    async with running(text) as balancer:
        (backend,) = await balancer.backends("web")
        os.kill(backend["pid"], signal.SIGKILL)
        replies = await ask_all(balancer.port, 20)
        assert [reply.status for reply in replies] == [200] * 20, [
            r.body for r in replies if r.status != 200
        ] + balancer.lines[-12:]
        assert max(reply.seconds for reply in replies) > 0.4
        assert metric(await balancer.metrics(), "balancer_queue_seconds_count", pool="web") >= 18


async def test_when_nobody_comes_soon_it_is_said_how_long_that_takes() -> None:
    text = LISTEN + pool("web", 1, "--boot-delay", "2.2", more='queue_timeout = "1s"')
    async with running(text) as balancer:
        (backend,) = await balancer.backends("web")
        os.kill(backend["pid"], signal.SIGKILL)
        await balancer.line("crashed")
        reply = await ask(balancer.port)
        # Its last start took 2.2 s and a bit.
        assert (reply.status, reply.one("retry-after")) == (503, "3")
        assert reply.seconds < 1


async def test_a_full_line_says_so_and_one_who_left_is_not_in_it() -> None:
    text = LISTEN + pool("web", 1, more="concurrency = 1\nqueue = 2")
    async with running(text) as balancer, trio.open_nursery() as nursery:
        answers: list[Reply] = []

        async def wait_in_line() -> None:
            answers.append(await ask(balancer.port, "/slow?ms=600"))

        async with trio.open_nursery() as leaving:
            nursery.start_soon(wait_in_line)
            await balancer.until(lambda s: s["pools"][0]["backends"][0]["in_flight"] == 1)
            for _ in range(2):
                leaving.start_soon(ask, balancer.port, "/slow?ms=600")
            await until_metric(balancer, "balancer_queue_length", 2)
            refused = await ask(balancer.port)
            assert refused.status == 503
            assert 'details="queue_full"' in refused.one("proxy-status")
            assert int(refused.one("retry-after")) >= 1
            leaving.cancel_scope.cancel()
        await until_metric(balancer, "balancer_queue_length", 0)
        assert (await ask(balancer.port)).status == 200
        await balancer.until(lambda s: s["pools"][0]["backends"][0]["requests_total"] == 2)
        assert [answer.status for answer in answers] == [200]
        assert metric(await balancer.metrics(), "balancer_requests_total", code="499") == 2


async def test_places_of_proxies_that_are_killed_come_back() -> None:
    text = LISTEN + proxies(2) + pool("web", 2, more="concurrency = 1")
    async with running(text) as balancer:

        async def break_off() -> None:
            with pytest.raises((trio.BrokenResourceError, h11.RemoteProtocolError)):
                await ask(balancer.port, "/slow?ms=5000")

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(break_off)
            status = await balancer.until(lambda s: [b["in_flight"] for b in s["pools"][0]["backends"]] == [1, 1])
            for proxy in status["proxies"]:
                os.kill(proxy["pid"], signal.SIGKILL)
        replies = await ask_all(balancer.port, 8)
        assert [reply.status for reply in replies] == [200] * 8
        assert max(reply.seconds for reply in replies) < 4
        await balancer.until(lambda s: [b["in_flight"] for b in s["pools"][0]["backends"]] == [0, 0])
