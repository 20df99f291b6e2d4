"""Backends that die under requests: who is asked again, and who is not."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import pytest
import trio

from balancer.proxy.blame import APART, LONGEST_DELAY, MOST, Blame
from tests.proxy.ends import End, Origin, requests
from tests.proxy.harness import Front, backend, front

SPAWNED = 1.0  # `since` of a process of ours


async def dies(origin: Origin, end: End) -> None:
    """Takes a request and breaks off when told to."""
    async for _ in requests(origin, end):
        await origin.until(lambda o: o.answer == b"")
        return


def die(origin: Origin) -> None:
    origin.answer = b""
    origin._tell()


@dataclass
class Caught:
    """A request that the first of two processes of ours has read, and its client."""

    proxy: Front
    client: End
    first: Origin
    second: Origin

    def exited(self, at: float, own_doing: bool, **more: int) -> None:
        """The supervisor's word that the first is gone."""
        self.proxy.say("exited", backend="web-0", generation=2, at=at, own_doing=own_doing, **more)


@asynccontextmanager
async def caught(request: bytes) -> AsyncIterator[Caught]:
    first, second = Origin(dies), Origin()
    async with front(first, second) as proxy:
        pictures = tuple(backend(n, o.port, since=SPAWNED, generation=2) for n, o in enumerate((first, second)))
        await proxy.apply(backends=pictures)
        async with proxy.client() as client:
            await client.send(request)
            await first.until(lambda o: len(o.requests) == 1)
            yield Caught(proxy, client, first, second)


@pytest.mark.parametrize(("own_doing", "status", "asked"), [(True, 502, 0), (False, 200, 1)])
async def test_alone_at_a_crash_it_is_not_asked_again_but_after_a_kill_it_is(
    own_doing: bool, status: int, asked: int
) -> None:
    async with caught(b"GET /boom?secret HTTP/1.1\r\nHost: a\r\n\r\n") as c:
        die(c.first)
        c.exited(at=monotonic(), own_doing=own_doing)
        assert (await c.client.response()).status == status
        assert len(c.second.requests) == asked
        (told,) = c.proxy.heard("casualties")
        assert [(r["method"], r["path"]) for r in told["requests"]] == [("GET", "/boom")]


async def test_with_others_beside_it_each_is_asked_again_once_and_the_guilty_one_stays_accused() -> None:
    blame = Blame()
    blame.crash([(b"GET /boom", 1.0), (b"GET /a", 1.0), (b"GET /b", 1.0)])
    assert blame.may_try_again(b"GET /boom", 3)
    assert blame.acquit(b"GET /a") == 1
    blame.acquit(b"GET /b")
    blame.crash([(b"GET /boom", 2.0), (b"GET /c", 2.0)])
    assert not blame.may_try_again(b"GET /boom", 2)
    assert blame.may_try_again(b"GET /c", 2)
    assert blame.counts == {b"GET /boom": 2, b"GET /c": 1}
    assert blame.acquit(b"GET /other") == 0


def test_fellow_suspects_are_sent_again_apart() -> None:
    delays = Blame().crash(
        [(b"GET /old", 0.0), (b"GET /b", 1.004), (b"GET /a", 1.002), (b"GET /a", 1.0), (b"GET /c", 1.0)]
    )
    assert delays == {b"GET /a": APART, b"GET /b": 2 * APART}, "/c at once, and /old"
    many = Blame().crash([(b"GET /%d" % number, 1.0) for number in range(50)])
    assert max(many.values()) == LONGEST_DELAY
    assert Blame().crash([]) == {}


def test_beside_those_of_other_proxies_only_what_was_sent_just_before_is_accused() -> None:
    blame = Blame()
    delays = blame.crash([(b"GET /slow", 1.0), (b"GET /boom", 1.995)], at=2.0, in_flight=3)
    assert blame.counts == {b"GET /boom": 1}
    assert delays == Blame().crash([(b"GET /slow", 5.0), (b"GET /boom", 5.0)], at=5.0, in_flight=3), (
        "the same everywhere"
    )
    blame.crash([(b"GET /slow", 2.0)], at=2.1, in_flight=2)
    assert b"GET /slow" not in blame.counts
    assert blame.may_try_again(b"GET /slow", 2)


async def test_what_was_sent_long_before_the_last_one_is_present_and_not_accused() -> None:
    blame = Blame()
    for crash in (1.0, 2.0):
        blame.crash([(b"GET /slow", crash - 0.5), (b"GET /boom", crash)])
        assert blame.may_try_again(b"GET /slow", 2)
    assert not blame.may_try_again(b"GET /boom", 2)
    assert blame.counts == {b"GET /boom": 2}
    # One that takes its time to kill is found out too, later.
    blame.crash([(b"GET /slow", 2.5), (b"GET /", 3.0)])
    assert not blame.may_try_again(b"GET /slow", 2)


@pytest.mark.parametrize(("in_flight", "status"), [(1, 502), (2, 200)])
async def test_alone_in_this_proxy_is_not_alone_when_others_had_requests_there(in_flight: int, status: int) -> None:
    async with caught(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n") as c:
        die(c.first)
        c.exited(at=monotonic(), own_doing=True, in_flight=in_flight)
        assert (await c.client.response()).status == status


async def test_quarantine_refuses_what_is_named_up_to_its_share() -> None:
    async with front(Origin(), pool={"quarantine": ("GET /boom",), "quarantine_time": 60.0}) as proxy:
        async with proxy.client() as client:
            await client.send(b"GET /boom?x=1 HTTP/1.1\r\nHost: a\r\n\r\n")
            refused = await client.response()
            assert refused.status == 503
            assert refused.all("Retry-After") == ["60"]
            await client.send(b"POST /boom HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
            assert (await client.response()).status == 200
            statuses = []
            for _ in range(30):
                await client.send(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n")
                statuses.append((await client.response()).status)
            # Ten at once, then ten a second: what is refused by mistake stays small.
            assert 8 <= statuses.count(503) <= 15
        assert proxy.errors()["quarantined"] == statuses.count(503) + 1


def test_what_is_remembered_is_bounded() -> None:
    blame = Blame()
    for number in range(3 * MOST):
        blame.crash([(b"GET /%d" % number, float(number))])
    assert len(blame.counts) == len(blame.present) == MOST
    assert b"GET /%d" % (3 * MOST - 1) in blame.counts


async def test_a_process_that_was_dead_before_the_send_is_no_reason_to_give_up_a_post() -> None:
    async with caught(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi") as c:
        c.exited(at=monotonic() - 10, own_doing=False)
        await c.proxy.until(lambda f: bool(f.heard("casualties")))
        die(c.first)
        assert (await c.client.response()).status == 200
        assert c.second.requests[0].body == b"hi"


@pytest.mark.parametrize(("listens", "status"), [(False, 502), (True, 200)])
async def test_a_late_word_is_waited_for_when_nobody_listens_there_any_more(listens: bool, status: int) -> None:
    async with caught(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n") as c:
        if not listens:
            await c.first.refuse()
        died = monotonic()
        die(c.first)
        await trio.sleep(0.2)  # so late is the supervisor
        c.exited(at=died, own_doing=True, in_flight=1)
        assert (await c.client.response()).status == status


async def test_a_post_that_may_have_run_is_not_sent_twice() -> None:
    async with caught(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi") as c:
        die(c.first)
        c.exited(at=monotonic(), own_doing=False)
        assert (await c.client.response()).status == 502
        assert not c.second.requests


async def test_four_innocents_beside_it_are_all_answered() -> None:
    first, second = Origin(dies), Origin()
    async with front(first, second) as proxy, AsyncExitStack() as stack:
        alone = (backend(0, first.port, since=SPAWNED, generation=2),)
        both = (*alone, backend(1, second.port, since=SPAWNED, generation=2))
        await proxy.apply(backends=alone)
        clients = [await stack.enter_async_context(proxy.client()) for _ in range(5)]
        for number, client in enumerate(clients):
            await client.send(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
        await first.until(lambda o: len(o.requests) == 5)
        await proxy.apply(backends=both)
        proxy.say("exited", backend="web-0", generation=2, at=monotonic(), own_doing=True)
        die(first)
        with trio.fail_after(3):
            assert [(await client.response()).status for client in clients] == [200] * 5
        assert sorted(request.target for request in second.requests) == sorted(r.target for r in first.requests)
        await proxy.until(lambda f: len(f.heard("acquitted")) == 5)
        assert not proxy.proxy.view.pools["web"].blame.present, "all of them have succeeded since"


async def test_who_was_on_the_only_one_waits_for_its_successor() -> None:
    first, second = Origin(dies), Origin()
    async with front(first) as proxy:
        await proxy.apply(backends=(backend(0, first.port, since=SPAWNED, generation=2),))
        await proxy.add_origin(second)
        async with proxy.client() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await first.until(lambda o: len(o.requests) == 1)
            # The word comes before the snapshot that says that another is expected.
            proxy.say("exited", backend="web-0", generation=2, at=monotonic(), own_doing=False)
            die(first)
            await proxy.until(lambda f: bool(f.heard("casualties")))
            await proxy.quiet()
            assert proxy.retries() == 1
            await proxy.apply(backends=(), pool={"expects": True})
            await proxy.apply(backends=(backend(1, second.port, name="web-0", since=SPAWNED, generation=3),))
            assert (await client.response()).status == 200
        assert len(second.requests) == 1
