"""One line per pool over all proxies: never more on a backend than its limit, first come first served, no place lost.

Two proxies' views of one pool share a table, as two processes do; what each does is plain functions, so any order of their
steps is an order that processes can take too (each step holds the lock).
"""

import os
from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balancer.errors import Fault, Reason
from balancer.proxy.backend import Backend
from balancer.proxy.pool import Pool
from balancer.proxy.queue import Grants, Place
from balancer.telemetry.table import LINE_PLACES, QUEUE_LENGTH, Table
from tests.proxy.ends import OK, End, Origin, Script, requests
from tests.proxy.harness import POOL, backend, front

FOR_EVER = 1e12


class Pair:
    """Two proxies with a view each of one pool of `backends` that take `limit` requests each."""

    def __init__(self, backends: int, limit: int, queue: int = 100) -> None:
        self.table = Table.create(2, listeners=1, pools=2, backends=8)
        pipes = [os.pipe2(os.O_NONBLOCK) for _ in range(2)]
        self.grants = [Grants(proxy, pipes[proxy][0], [write for _, write in pipes]) for proxy in range(2)]
        self._pipes = pipes
        picture = replace(POOL, concurrency=limit, queue=queue, expects=True)
        self.pools = [Pool(picture, self.table, proxy, self.grants[proxy]) for proxy in range(2)]
        for proxy, pool in enumerate(self.pools):
            pictures = [backend(number, 9000 + number, since=1.0) for number in range(backends)]
            pool.update(picture, [Backend(each, pool, self.table, proxy) for each in pictures])

    def settle(self) -> None:
        """Let both read their pipes."""
        for _ in range(2):
            for grants in self.grants:
                grants.receive()

    def loads(self) -> list[int]:
        return [self.table.in_flight(row) for row in range(len(self.pools[0].backends))]

    def close(self) -> None:
        for pipe in self._pipes:
            for fd in pipe:
                os.close(fd)


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair(backends=2, limit=1)
    yield made
    made.close()


def granted(pool: Pool, place: Place) -> Backend | None:
    return pool.leave(place) if place.granted >= 0 else None


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)
@given(
    backends=st.integers(1, 3),
    limit=st.integers(1, 3),
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "ask", "end", "leave", "settle", "die"]), st.integers(0, 50)), max_size=80
    ),
)
def test_any_order_of_steps_keeps_the_limit_the_order_and_the_places(
    backends: int, limit: int, steps: list[tuple[str, int]]
) -> None:
    pair = Pair(backends, limit)
    numbers = count()
    busy: list[tuple[int, Backend]] = []
    waiting: deque[tuple[int, int, Place]] = deque()  # (order of arrival, proxy, place)
    served: list[int] = []

    def collect() -> None:
        for number, proxy, place in list(waiting):
            if place.granted >= 0:
                taken = granted(pair.pools[proxy], place)
                assert taken is not None
                busy.append((proxy, taken))
                served.append(number)
                waiting.remove((number, proxy, place))

    try:
        for step, choice in steps:
            proxy = choice % 2
            pool = pair.pools[proxy]
            if step == "ask":
                taken = pool.claim(())
                if taken is None:
                    found = pool.join((), FOR_EVER)
                    if isinstance(found, Place):
                        waiting.append((next(numbers), proxy, found))
                        continue
                    taken = found
                busy.append((proxy, taken))
                # Who has been given a place may not know yet; who has not been waits, and came before.
                pair.settle()
                collect()
                assert not waiting, "jumped the line"
            elif step == "end" and busy:
                owner, taken = busy.pop(choice % len(busy))
                pair.pools[owner].release(taken)
            elif step == "leave" and waiting:
                entry = waiting[choice % len(waiting)]
                waiting.remove(entry)
                taken = pair.pools[entry[1]].leave(entry[2])
                if taken is not None:
                    pair.pools[entry[1]].release(taken)
            elif step == "settle":
                pair.settle()
                collect()
            elif step == "die":
                # A proxy is killed: its requests and waits are gone, and the supervisor clears its gauges.
                busy = [(owner, taken) for owner, taken in busy if owner != proxy]
                waiting = deque(entry for entry in waiting if entry[1] != proxy)
                pair.table.clear_gauges(proxy)
                pool.queue.places.clear()
                for each in pool.backends:
                    each.in_flight = 0
                pair.grants[proxy].receive()
                if choice % 3 == 0:
                    pair.pools[1 - proxy].tick(0.0)
            assert all(load <= limit for load in pair.loads())
        for _ in range(3):
            pair.settle()
            collect()
            for pool in pair.pools:
                pool.tick(0.0)
        assert served == sorted(served)
        assert not waiting or sum(pair.loads()) == backends * limit, "somebody waits although a place is free"
        while busy:
            owner, taken = busy.pop()
            pair.pools[owner].release(taken)
            pair.settle()
            collect()
        assert not waiting
        assert pair.loads() == [0] * backends
    finally:
        pair.close()


def test_the_first_that_frees_serves_the_first_that_waits_in_the_other_process(pair: Pair) -> None:
    here, there = pair.pools
    taken = here.claim(())
    assert taken is not None
    assert here.claim(()) is not None
    place = there.join((), FOR_EVER)
    assert isinstance(place, Place)
    here.release(taken)
    assert pair.loads() == [1, 1], "the place is counted for the one that waits, not offered to others"
    assert here.claim(()) is None
    pair.settle()
    assert place.granted == taken.row


def test_the_line_is_bounded_over_all_processes() -> None:
    pair = Pair(backends=1, limit=1, queue=3)
    try:
        assert pair.pools[0].claim(()) is not None
        for number in range(3):
            assert isinstance(pair.pools[number % 2].join((), FOR_EVER), Place)
        for pool in pair.pools:
            with pytest.raises(Fault) as refused:
                pool.join((), FOR_EVER)
            assert refused.value.reason is Reason.QUEUE_FULL
    finally:
        pair.close()


def test_a_grant_to_a_proxy_that_died_is_no_place_less_and_none_more(pair: Pair) -> None:
    here, there = pair.pools
    taken, other = here.claim(()), here.claim(())
    assert taken is not None
    assert other is not None
    assert isinstance(there.join((), FOR_EVER), Place)
    here.release(taken)
    # The grant is in the pipe; its proxy dies, its gauges are cleared, its successor reads the pipe.
    pair.table.clear_gauges(1)
    there.queue.places.clear()
    pair.settle()
    assert pair.loads() == [0, 1]
    assert here.claim(()) is taken


def test_what_a_dead_proxy_held_goes_to_who_waits_not_to_who_comes(pair: Pair) -> None:
    here, there = pair.pools
    assert there.claim(()) is not None
    assert there.claim(()) is not None
    place = here.join((), FOR_EVER)
    assert isinstance(place, Place)
    pair.table.clear_gauges(1)
    assert here.claim(()) is None, "somebody waits"
    here.tick(0.0)
    assert place.granted >= 0


def test_those_that_leave_make_room_in_the_ring(pair: Pair) -> None:
    here, _ = pair.pools
    while here.claim(()) is not None:
        pass
    for _ in range(3 * LINE_PLACES):
        place = here.join((), FOR_EVER)
        assert isinstance(place, Place)
        here.leave(place)
    assert len(here.queue) == 0


def slow_by(seconds: float) -> Script:
    """Answers after so long, one request after the other."""

    async def script(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await trio.sleep(seconds)
            await end.stream.send_all(OK)

    return script


async def test_forty_requests_on_four_places_take_ten_turns() -> None:
    origins = tuple(Origin(slow_by(0.05)) for _ in range(4))
    async with front(*origins, pool={"concurrency": 1}) as proxy:
        statuses: list[int] = []

        async def ask(times: int) -> None:
            statuses.extend([(await proxy.ask()).status for _ in range(times)])

        async def seconds(clients: int) -> float:
            began = trio.current_time()
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(ask, 40 // clients)
            return trio.current_time() - began

        without_a_line = await seconds(4)
        assert 0.5 <= await seconds(40) < 1.5 * without_a_line
        assert statuses == [200] * 80


async def test_who_finds_the_line_full_is_told_when_it_moves_on() -> None:
    origins = (Origin(slow_by(0.3)), Origin(slow_by(0.3)))
    async with front(*origins, pool={"concurrency": 1, "queue": 10}) as proxy:
        assert (await proxy.ask()).status == 200
        async with trio.open_nursery() as nursery:
            for _ in range(12):
                nursery.start_soon(proxy.ask)
            await proxy.quiet()
            assert proxy.table.pool_sums(1)[QUEUE_LENGTH] == 10
            refused = await proxy.ask()
            nursery.cancel_scope.cancel()
        assert refused.status == 503
        # Eleven to go, two at a time, 0.3 s each; a bit more on a busy machine.
        assert refused.one("retry-after") in ("2", "3")


async def test_without_a_line_the_reason_is_what_was_lacking() -> None:
    async with front(Origin(slow_by(0.3)), pool={"concurrency": 1, "queue": 0, "expects": True}) as proxy:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(proxy.ask)
            await proxy.quiet()
            refused = await proxy.ask()
        assert (refused.status, 'details="queue_full"' in refused.one("proxy-status")) == (503, True)
        await proxy.apply(backends=())
        assert 'details="no_backend"' in (await proxy.ask()).one("proxy-status")


async def test_who_finds_nobody_is_told_when_somebody_is_expected() -> None:
    origin = Origin()
    async with front(origin, pool={"expects": False, "retry_after": 3.2}, backends=()) as proxy:
        refused = await proxy.ask()
        assert (refused.status, refused.one("retry-after")) == (503, "4")
        await trio.sleep(0.4)  # what is told is the time that is left
        assert (await proxy.ask()).one("retry-after") == "3"
