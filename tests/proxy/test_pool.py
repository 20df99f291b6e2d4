"""Shares of the backends, and the line in front of them."""

import itertools

import pytest
import trio
import trio.testing

from balancer.telemetry.table import CONNECTIONS_NEW, CONNECTIONS_REUSED
from tests.proxy.ends import AT_ONCE, OK, End, Message, Origin, requests
from tests.proxy.harness import GET, Front, backend, front


@pytest.mark.parametrize("concurrency", [0, 1])
async def test_requests_wait_for_a_backend_that_is_expected(concurrency: int) -> None:
    origin = Origin()
    async with front(origin, pool={"expects": True, "concurrency": concurrency}) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, takes_requests=False),))

        async def ask(number: int) -> None:
            answer = await proxy.ask(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
            assert answer.status == 200

        async with trio.open_nursery() as nursery:
            for number in range(8):
                nursery.start_soon(ask, number)
                await proxy.quiet()
                assert proxy.waiting() == number + 1
            await proxy.apply(backends=(backend(0, origin.port),))
        served = [request.target for request in origin.requests]
        # Without a limit all are sent at once; with one, whoever came first is served first.
        assert (served if concurrency else sorted(served)) == [f"/{number}" for number in range(8)]
        assert proxy.waiting() == 0


async def test_the_line_is_full_or_too_slow() -> None:
    origin = Origin()
    async with front(origin, pool={"expects": True, "queue": 1, "queue_timeout": 0.2, "retry_after": 7}) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, takes_requests=False),))
        answers: list[Message] = []

        async def ask() -> None:
            answers.append(await proxy.ask())

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await proxy.quiet()
            assert proxy.waiting() == 1
            await ask()
        assert [answer.status for answer in answers] == [503, 503]
        assert [answer.one("retry-after") for answer in answers] == ["7", "7"]
        assert proxy.errors() == {"queue_full": 1, "queue_timeout": 1}
        await proxy.apply(pool={"expects": False})
        assert 'details="no_backend"' in (await proxy.ask()).one("proxy-status")


async def test_who_waits_for_nobody_is_told_so() -> None:
    origin = Origin()
    async with front(origin, pool={"expects": True}) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, takes_requests=False),))
        async with proxy.client() as client:
            await client.send(GET)
            await proxy.quiet()
            assert proxy.waiting() == 1
            await proxy.apply(pool={"expects": False})
            assert (await client.response()).status == 503


async def test_kept_connections_are_bounded_and_expire() -> None:
    origin = Origin()
    async with front(origin, pool={"keep_alive": 2, "keep_alive_timeout": 0.15}) as proxy:
        async with trio.open_nursery() as nursery:
            for _ in range(8):
                nursery.start_soon(proxy.ask)
        await proxy.quiet()
        assert origin.open <= 2
        await origin.until(lambda origin: origin.open == 0, AT_ONCE)


async def shares(proxy: Front, count: int) -> list[int]:
    """How many of so many requests over one connection each backend gets."""
    before = [len(origin.requests) for origin in proxy.origins]
    async with proxy.client() as client:
        for _ in itertools.repeat(None, count // 50):
            await client.send(GET * 50)
            for _ in range(50):
                await client.response()
    return [len(origin.requests) - was for origin, was in zip(proxy.origins, before, strict=True)]


async def test_shares_are_exact_and_follow_live_changes() -> None:
    a, b, c = (Origin() for _ in range(3))
    async with front(a, b, c) as proxy:

        async def weigh(*weights: int, backup: int = -1) -> list[int]:
            await proxy.apply(
                backends=tuple(
                    backend(number, origin.port, weight=weight, backup=number == backup)
                    for number, (origin, weight) in enumerate(zip(proxy.origins, weights, strict=True))
                )
            )
            return await shares(proxy, 350)

        assert await weigh(5, 1, 1) == [250, 50, 50]
        assert await weigh(1, 1, 5) == [50, 50, 250]
        assert await weigh(1, 0, 6) == [50, 0, 300]
        assert await weigh(1, 6, 1, backup=0) == [0, 300, 50]
        await a.refuse()
        await proxy.apply(
            backends=(
                backend(0, a.port, takes_requests=False),
                backend(1, b.port, backup=True),
                backend(2, c.port, backup=True, weight=0),
            )
        )
        assert await shares(proxy, 50) == [0, 50, 0]


async def test_four_equal_backends_and_many_requests() -> None:
    origins = [Origin() for _ in range(4)]
    async with front(*origins) as proxy:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(shares, proxy, 500)
        got = [len(origin.requests) for origin in origins]
        assert sum(got) == 2000
        assert all(499 <= count <= 501 for count in got), got
        assert proxy.requests() == {("GET", "200"): 2000}
        assert proxy.cell(0, CONNECTIONS_NEW) + proxy.cell(0, CONNECTIONS_REUSED) == got[0]


async def test_least_connections_goes_round_the_busy_one() -> None:
    async def slow(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await release.wait()
            await end.send(OK)

    release = trio.Event()
    busy, free = Origin(slow), Origin()
    async with front(busy, free, pool={"policy": "least-connections"}) as proxy, trio.open_nursery() as nursery:
        while not busy.requests:
            nursery.start_soon(proxy.ask)
            await proxy.quiet()
        free.requests.clear()
        assert await shares(proxy, 50) == [0, 50]
        release.set()
    assert len(busy.requests) == 1
