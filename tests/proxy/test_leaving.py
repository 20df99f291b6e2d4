"""Clients that leave, wherever their request is: nothing is left of it, at once."""

import pytest
import trio
import trio.testing

from balancer.proxy import sweep
from tests.proxy.ends import AT_ONCE, OK, End, Full, Origin
from tests.proxy.harness import GET, Front, backend, front

POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"


@pytest.fixture(autouse=True)
def _no_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens at once happens without one."""
    monkeypatch.setattr(sweep, "PERIOD", 60)


async def test_a_client_that_leaves_while_its_backend_is_connected_to() -> None:
    with Full() as full:
        async with front(pool={"connect_timeout": 5}) as proxy:
            await proxy.apply(backends=(backend(0, full.port),))
            async with proxy.client() as client:
                await client.send(GET)
                await proxy.quiet()
                assert proxy.gauges()["in flight 0"] == 1
            await gone(proxy)


async def gone(proxy: Front) -> None:
    """Nothing is left of the client, at once, and it was counted."""
    with trio.fail_after(AT_ONCE):
        await proxy.idle()
        for origin in proxy.origins:
            await origin.until(lambda origin: origin.open == 0)
    assert proxy.codes() == {"499": 1}
    assert proxy.errors() == {"client_gone": 1}
    assert not proxy.gauges()


async def test_a_client_that_leaves_while_a_kept_connection_works_for_it() -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.send(OK)
        origin.got(await end.request())
        await end.closed()

    origin = Origin(script)
    async with front(origin) as proxy:
        await proxy.ask()
        async with proxy.client() as client:
            await client.send(GET)
            await origin.until(lambda origin: bool(origin.requests))
        with trio.fail_after(AT_ONCE):
            await proxy.idle()
            await origin.until(lambda origin: origin.open == 0)
        assert origin.opened == 1
        assert proxy.codes() == {"200": 1, "499": 1}


@pytest.mark.parametrize("how", ["close", "reset"])
@pytest.mark.parametrize("request_", [GET, POST, POST[:-1]])
async def test_a_client_that_leaves_while_waiting_for_the_head(request_: bytes, how: str) -> None:
    async def script(origin: Origin, end: End) -> None:
        origin.got(await end.head())
        await end.take(3)
        await end.closed()

    async with front(Origin(script)) as proxy:
        async with proxy.client() as client:
            await client.send(request_)
            await proxy.origins[0].until(lambda origin: bool(origin.requests))
            if how == "reset":
                client.reset()
        await gone(proxy)


@pytest.mark.parametrize(
    "begun",
    [
        b"Content-Length: 10\r\n\r\nabc",
        b"Content-Length: 900000\r\n\r\nabc",
        b"Transfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n3\r\n:\n\n\r\n",
        b"\r\nabc",
    ],
)
async def test_a_client_that_leaves_in_the_middle_of_a_response(begun: bytes) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.send(b"HTTP/1.1 200 OK\r\n" + begun)
        await end.closed()

    async with front(Origin(script)) as proxy:
        async with proxy.client() as client:
            await client.send(GET)
            await client.head()
            await client.take(3)
        await gone(proxy)


async def test_a_client_that_leaves_the_line() -> None:
    async with front(pool={"expects": True}) as proxy:
        async with proxy.client() as client:
            await client.send(GET)
            await proxy.quiet()
            assert proxy.waiting() == 1
        await gone(proxy)
