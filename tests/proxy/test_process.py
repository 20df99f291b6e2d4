"""What the supervisor says, and what follows from it: drain, removal, stop, a supervisor that is gone."""

import socket

import pytest
import trio

from balancer.pool.snapshot import ListenerPicture
from tests.proxy.ends import AT_ONCE, OK, End, Origin, Torn, requests
from tests.proxy.harness import GET, Front, backend, front


class Slow(Origin):
    """A backend that answers when it is told to."""

    def __init__(self, answer: bytes = OK) -> None:
        super().__init__(self._answer_later, answer)
        self.go = trio.Event()

    async def _answer_later(self, origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await self.go.wait()
            await end.send(self.answer)


def drained(proxy: Front) -> list[tuple[str, int]]:
    """(backend, generation) of what was told to be drained."""
    return [(message["backend"], message["generation"]) for message in proxy.heard("drained")]


@pytest.mark.parametrize("how", ["draining", "gone"])
async def test_a_backend_drains(how: str) -> None:
    old, new = Slow(), Origin()
    async with front(old) as proxy, proxy.client() as busy:
        async with proxy.client() as idle:
            old.go.set()
            await idle.send(GET)
            await idle.response()
            old.go = trio.Event()
            await busy.send(GET)
            await old.until(lambda origin: len(origin.requests) == 2)
            # One more kept connection, idle while the first is in use.
            await idle.send(GET)
            await old.until(lambda origin: len(origin.requests) == 3)
            old.go.set()
            await idle.response()
            await busy.response()
            old.go = trio.Event()
            await busy.send(GET)
            await old.until(lambda origin: len(origin.requests) == 4)
            assert old.open == 2
            await proxy.add_origin(new)
            leaving = (backend(0, old.port, draining=True, takes_requests=False),) if how == "draining" else ()
            await proxy.apply(backends=(*leaving, backend(1, new.port)))
            # No new request, and the connection that is idle is closed at once.
            await old.until(lambda origin: origin.open == 1, AT_ONCE)
            for _ in range(3):
                await idle.send(GET)
                assert (await idle.response()).status == 200
            assert len(old.requests) == 4
            assert len(new.requests) == 3
            proxy.say("report", pool="web", backend="web-0", generation=1)
            await proxy.until(lambda front: bool(front.heard("draining")))
            (report,) = proxy.heard("draining")
            assert [(r["method"], r["path"]) for r in report["requests"]] == [("GET", "/")]
            assert not drained(proxy)
            old.go.set()
            answer = await busy.response()
            assert (answer.status, answer.has("connection")) == (200, False)
            await proxy.until(lambda front: drained(front) == [("web-0", 1)], AT_ONCE)
            await old.until(lambda origin: origin.open == 0, AT_ONCE)
        await proxy.apply(backends=(backend(1, new.port),))
        await proxy.apply()
        assert drained(proxy) == [("web-0", 1)]
        # What has left is forgotten: generations come and go for months.
        assert not proxy.proxy.view._leaving


async def test_a_backend_with_nothing_to_drain_is_drained_at_once() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, draining=True, takes_requests=False),))
        assert drained(proxy) == [("web-0", 1)]
        await proxy.apply(backends=(backend(0, origin.port),))
        assert (await proxy.ask()).status == 200
        await proxy.apply(backends=(backend(0, origin.port, draining=True, takes_requests=False),))
        assert drained(proxy) == [("web-0", 1)] * 2


async def test_what_a_request_ran_into_on_a_draining_backend_is_counted_before_it_is_drained() -> None:
    async def script(origin: Origin, end: End) -> None:
        origin.got(await end.request())
        await go.wait()
        end.reset()

    go = trio.Event()
    origin = Origin(script)
    async with front(origin) as proxy, proxy.client() as client:
        told: list[dict[str, int]] = []
        tell = proxy.proxy.view._tell
        proxy.proxy.view._tell = lambda value: told.append(proxy.codes()) if value["type"] == "drained" else tell(value)
        await client.send(GET)
        await origin.until(lambda origin: bool(origin.requests))
        await proxy.apply(backends=(backend(0, origin.port, draining=True, takes_requests=False),))
        await client.close()
        await proxy.idle()
        assert told == [{"499": 1}]
        go.set()


async def test_stop() -> None:
    slow = Slow()
    async with front(slow) as proxy, proxy.client() as busy, proxy.client() as idle, proxy.client() as fresh:
        slow.go.set()
        await idle.send(GET)
        await idle.response()
        slow.go = trio.Event()
        await busy.send(GET)
        await slow.until(lambda origin: len(origin.requests) == 2)
        proxy.say("stop")
        assert await idle.closed(AT_ONCE)
        assert await fresh.closed(AT_ONCE)
        with pytest.raises(OSError, match="refused"):
            async with proxy.client():
                pass
        assert proxy.is_running
        slow.go.set()
        answer = await busy.response()
        assert (answer.status, answer.one("connection")) == (200, "close")
        assert await busy.closed(AT_ONCE)
        await proxy.until(lambda front: not front.is_running, AT_ONCE)
        assert proxy.codes() == {"200": 2}


async def test_a_request_that_arrives_with_the_stop_is_served() -> None:
    async with front(Origin()) as proxy, proxy.client() as client:
        await client.send(GET)
        await client.response()
        # In the kernel before the proxy hears of the stop; it may see either first.
        await client.send(GET)
        proxy.proxy._stop(3)
        answer = await client.response()
        assert (answer.status, answer.one("connection")) == (200, "close")
        await proxy.until(lambda front: not front.is_running)


@pytest.mark.parametrize(("kind", "seconds"), [("stop", 0.3), ("stop_now", 1.0)])
async def test_stop_has_an_end(kind: str, seconds: float) -> None:
    async def script(origin: Origin, end: End) -> None:
        request = await end.request()
        if request.target == "/begun":
            await end.send(b"HTTP/1.1 200 OK\r\n\r\nabc")
        origin.got(request)
        await end.closed()

    origin = Origin(script)
    async with (
        front(origin, proxy={"shutdown_timeout": 0.3}) as proxy,
        proxy.client() as begun,
        proxy.client() as waiting,
    ):
        await begun.send(b"GET /begun HTTP/1.0\r\nHost: a\r\n\r\n")
        await waiting.send(GET)
        await origin.until(lambda origin: len(origin.requests) == 2)
        await begun.head()
        await begun.take(3)
        at = trio.current_time()
        proxy.say(kind)
        await proxy.until(lambda front: not front.is_running, seconds + AT_ONCE)
        assert trio.current_time() - at > seconds - 0.05
        # A body without a length that is cut must not look whole.
        with pytest.raises(Torn):
            await begun.rest()
        answer = await waiting.response()
        assert answer.status == 503
        assert 'details="stopping"' in answer.one("proxy-status")


async def test_a_stop_at_once_ends_what_waits_before_its_backends_are_killed() -> None:
    slow = Slow()
    pool = {"concurrency": 1, "expects": True}
    async with (
        front(slow, pool=pool) as proxy,
        proxy.client() as first,
        proxy.client() as second,
        proxy.client() as late,
    ):
        await late.send(GET[:-2])
        await first.send(GET)
        await slow.until(lambda origin: bool(origin.requests))
        await second.send(GET)
        await proxy.quiet()
        assert proxy.waiting() == 1
        proxy.say("stop_now")
        await proxy.until(lambda front: bool(front.heard("let go")), AT_ONCE)
        with trio.fail_after(AT_ONCE):
            answers = [await first.response(), await second.response()]
        # And what was still on its way finds them gone.
        await slow.refuse()
        await proxy.apply(backends=(), pool={"expects": False})
        await late.send(GET[-2:])
        answers.append(await late.response())
        assert all('details="stopping"' in answer.one("proxy-status") for answer in answers)
        assert proxy.errors() == {"stopping": 3}


async def test_a_response_that_a_stop_at_once_cuts_is_not_held_against_its_backend() -> None:
    async def script(origin: Origin, end: End) -> None:
        origin.got(await end.request())
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        await killed.wait()

    killed = trio.Event()
    async with front(Origin(script)) as proxy, proxy.client() as client:
        await client.send(GET)
        await client.head()
        await client.take(3)
        proxy.say("stop_now")
        await proxy.until(lambda front: bool(front.heard("let go")), AT_ONCE)
        killed.set()
        with pytest.raises(Torn):
            await client.take(6)
        await proxy.until(lambda front: not front.is_running)
        assert proxy.errors() == {"stopping": 1}
        assert not proxy.heard("observed")


@pytest.mark.parametrize("is_socket_first", [True, False])
async def test_a_listener_that_is_new_is_served_whatever_comes_first(is_socket_first: bool) -> None:
    async with front(Origin()) as proxy:
        with socket.create_server(("127.0.0.1", 0)) as more:
            listeners = (*proxy.snapshot.listeners, ListenerPicture("more", 0, "web"))
            if is_socket_first:
                proxy.pass_listener("more", more)
            await proxy.apply(listeners=listeners)
            if not is_socket_first:
                proxy.pass_listener("more", more)
            async with await trio.open_tcp_stream(*more.getsockname()) as stream:
                client = End(stream)
                await client.send(GET)
                assert (await client.response()).status == 200
        await proxy.apply(listeners=listeners)


async def test_a_supervisor_that_is_gone() -> None:
    slow = Slow()
    async with front(slow) as proxy, proxy.client() as client:
        await client.send(GET)
        await slow.until(lambda origin: bool(origin.requests))
        proxy.hang_up()
        await proxy.until(lambda front: not front.is_running, AT_ONCE)


async def test_snapshots_that_come_late_change_nothing() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        newest = proxy.snapshot
        await proxy.apply(proxy={"server_header": "newer"})
        proxy.give(newest)
        await proxy.until(lambda front: len(front.heard("applied")) == 3)
        assert (await proxy.ask()).one("server") == "newer"
