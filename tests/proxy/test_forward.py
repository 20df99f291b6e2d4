"""A request finds a backend: kept connections, retries, timeouts."""

import socket

import pytest
import trio
import trio.testing

from balancer.telemetry.table import CONNECTIONS_NEW
from tests.proxy.ends import AT_ONCE, OK, End, Full, Origin, Torn, raw, requests
from tests.proxy.harness import GET, backend, front

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


async def dead() -> int:
    """A port that refuses."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_a_refused_request_goes_elsewhere_whatever_its_method() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        await proxy.apply(backends=(backend(0, await dead(), generation=2), backend(1, origin.port)))
        for request in (POST, GET, POST, GET):
            assert (await proxy.ask(request)).status == 200
        # Refused once, it is not asked again for a while.
        assert proxy.retries() == 1
        assert proxy.codes() == {"200": 4}
        assert {message["outcome"] for message in proxy.heard("observed")} == {"connect_refused"}
        assert {message["backend"] for message in proxy.heard("observed")} == {"web-0"}
    assert [request.body for request in origin.requests] == [b"abc", b"", b"abc", b""]


async def test_502_when_all_refuse() -> None:
    async with front(pool={"retries": 2}) as proxy:
        await proxy.apply(backends=tuple([backend(number, await dead()) for number in range(4)]))
        answer = await proxy.ask()
        assert answer.status == 502
        assert 'details="connect_refused"' in answer.one("proxy-status")
        assert proxy.retries() == 2
        assert len(proxy.heard("observed")) == 3
        assert proxy.errors() == {"connect_refused": 1}


class Leaving(Origin):
    """Answers one request on each connection, and closes or resets it when told to."""

    def __init__(self, resets: bool = False) -> None:
        super().__init__(self._once)
        self._resets = resets
        self._told = trio.Event()

    async def leave(self) -> None:
        """End what is open."""
        self._told.set()
        await self.until(lambda origin: origin.open == 0)
        self._told = trio.Event()

    async def _once(self, _: Origin, end: End) -> None:
        async for _request in requests(self, end):
            await end.send(OK)
            await self._told.wait()
            if self._resets:
                end.reset()
            return


async def test_a_kept_connection_that_the_backend_has_closed() -> None:
    origin = Leaving()
    async with front(origin) as proxy, proxy.client() as client:
        for request in (GET, POST, GET, POST):
            await client.send(request)
            assert (await client.response()).status == 200
            await origin.leave()
        assert proxy.retries() == 0
        assert proxy.cell(0, CONNECTIONS_NEW) == 4
    assert len(origin.requests) == 4


@pytest.mark.parametrize("request_", [POST, POST.replace(b"POST", b"PUT")[:-1]])
async def test_a_kept_connection_whose_end_nobody_has_reported_yet(request_: bytes) -> None:
    origin = Leaving()
    async with front(origin) as proxy, proxy.client() as client:
        await proxy.ask()
        (kept,) = proxy.proxy.view.pools["web"].backends[0].idle
        # The poller looks away: what it would say comes too late for this request.
        del proxy.proxy.service.poller.wires[kept.wire.fd]
        await origin.leave()
        await client.send(request_)
        await proxy.quiet()
        if request_.endswith(b"ab"):
            await client.send(b"c")
        assert (await client.response()).status == 200
    assert len(origin.requests) == 2


def closing_on(*targets: str) -> Origin:
    """A backend that resets a kept connection when it reads one of these targets on it for the first time."""
    closed: set[str] = set()

    async def script(origin: Origin, end: End) -> None:
        is_kept = False
        async for request in requests(origin, end):
            if request.target in targets and is_kept and request.target not in closed:
                closed.add(request.target)
                end.reset()
                return
            await end.send(OK)
            is_kept = True

    return Origin(script)


async def test_a_kept_connection_that_breaks_under_a_request() -> None:
    origin = closing_on("/get", "/post")
    async with front(origin) as proxy, proxy.client() as client:
        answers: list[int] = []
        for request in (GET, GET.replace(b"/ ", b"/get "), GET, POST.replace(b"/ ", b"/post "), GET):
            await client.send(request)
            answers.append((await client.response()).status)
        assert answers == [200, 200, 200, 502, 200]
        assert proxy.errors() == {"reset": 1}
        # A stale connection says nothing against the backend.
        assert not proxy.heard("observed")
    assert [request.target for request in origin.requests] == ["/", "/get", "/get", "/", "/post", "/"]


@pytest.mark.parametrize(("request_", "attempts"), [(GET, 3), (POST, 1)])
async def test_a_backend_that_resets_after_reading(request_: bytes, attempts: int) -> None:
    async def script(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            end.reset()
            return

    origins = [Origin(script) for _ in range(4)]
    async with front(*origins) as proxy:
        assert (await proxy.ask(request_)).status == 502
        assert proxy.retries() == attempts - 1
    assert sorted(len(origin.requests) for origin in origins) == sorted([1] * attempts + [0] * (4 - attempts))


async def test_a_body_that_was_not_wholly_at_hand_is_not_sent_twice() -> None:
    async def script(origin: Origin, end: End) -> None:
        origin.got(await end.head())
        end.reset()

    origins = [Origin(script) for _ in range(3)]
    async with front(*origins) as proxy:
        answer = await proxy.ask(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        assert (answer.status, answer.one("connection")) == (502, "close")
        whole = b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        assert (await proxy.ask(whole)).status == 502
    assert sum(len(origin.requests) for origin in origins) == 4


async def test_a_request_that_a_later_backend_answers_is_told_as_one() -> None:
    async def script(origin: Origin, end: End) -> None:
        origin.got(await end.request())
        await end.send(b"HTTP/1.1 2")

    bad = Origin(script)
    async with front(bad, Origin()) as proxy:
        for _ in range(4):
            assert (await proxy.ask()).status == 200
        assert proxy.codes() == {"200": 4}
        assert not proxy.errors()
        assert proxy.retries() == len(bad.requests) > 1


async def silent(origin: Origin, end: End) -> None:
    """Read requests, say nothing."""
    async for _ in requests(origin, end):
        pass


async def test_504_and_never_a_retry_when_a_backend_is_slow() -> None:
    origins = [Origin(silent), Origin(silent)]
    async with front(*origins, pool={"response_timeout": 0.1}) as proxy, proxy.client() as client:
        for request in (GET, POST):
            await client.send(request)
            answer = await client.response()
            assert (answer.status, answer.has("connection")) == (504, False)
        assert proxy.errors() == {"response_timeout": 2}
        for origin in origins:
            await origin.until(lambda origin: origin.open == 0, AT_ONCE)
    assert [len(origin.requests) for origin in origins] == [1, 1]


async def test_a_connection_that_does_not_come_about() -> None:
    with Full() as full:
        origin = Origin()
        async with front(origin, pool={"connect_timeout": 0.3}) as proxy:
            await proxy.apply(backends=(backend(0, full.port, generation=2), backend(1, origin.port)))
            for _ in range(2):
                assert (await proxy.ask()).status == 200
            assert proxy.retries() >= 1
            await proxy.apply(backends=(backend(0, full.port, generation=2),))
            assert (await proxy.ask()).status == 504
            assert proxy.errors() == {"connect_timeout": 1}


async def test_the_backends_time_begins_when_it_has_the_whole_request() -> None:
    origin = Origin()
    async with front(origin, pool={"response_timeout": 0.6}) as proxy, proxy.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n")
        for _ in range(4):
            await trio.sleep(0.25)  # a slow client is what this is about
            await client.send(b"x")
        assert (await client.response()).status == 200


@pytest.mark.parametrize("request_", [GET, POST])
async def test_a_request_that_the_kernel_does_not_even_take(request_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    origin = Leaving(resets=True)
    async with front(origin) as proxy, proxy.client() as client:
        await proxy.ask()
        (kept,) = proxy.proxy.view.pools["web"].backends[0].idle
        # The poller looks away, and asking the kernel came a moment too early.
        del proxy.proxy.service.poller.wires[kept.wire.fd]
        monkeypatch.setattr(type(kept), "is_open", lambda _: True)
        await origin.leave()
        await client.send(request_)
        assert (await client.response()).status == 200
        assert proxy.retries() == 1


async def test_a_torn_answer_is_not_asked_for_again() -> None:
    origin = Origin(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", close=True))
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(GET)
        with pytest.raises(Torn):
            await client.response()
        await proxy.idle()
        assert proxy.errors() == {"truncated": 1}
    assert len(origin.requests) == 1
