"""Responses that break off or are nonsense: a client never takes a part for the whole."""

import pytest
import trio
import trio.testing

from balancer.telemetry.table import RESPONSE_BYTES, SERVER_ERRORS
from tests.proxy.bodies import KIB, MIB, body_of
from tests.proxy.ends import End, Origin, Torn, raw, requests
from tests.proxy.harness import GET, front

WHOLE = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 12\r\nX: 1\r\n\r\nhello, there", b"1.1"),
    "chunked": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, there\r\n0\r\n\r\n", b"1.1"),
    "chunked to an old client": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7\r\n, there\r\n0\r\n\r\n", b"1.0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", ["reset", "close"])
@pytest.mark.parametrize("name", WHOLE)
async def test_a_backend_that_breaks_off_at_each_byte(name: str, how: str) -> None:
    whole, version = WHOLE[name]
    at = 0

    async def script(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await end.send(whole[:at])
            if how == "reset":
                # Only what has arrived counts: a reset may overtake what is still on its way.
                await trio.testing.wait_all_tasks_blocked(0.001)
                end.reset()
            return

    head_end = whole.index(b"\r\n\r\n") + 4
    async with front(Origin(script), pool={"retries": 0}) as proxy:
        for at in range(len(whole)):
            async with proxy.client() as client:
                await client.send(b"GET / HTTP/%s\r\nHost: a\r\n\r\n" % version)
                if at < head_end:
                    assert (await client.response()).status == 502
                else:
                    with pytest.raises(Torn):
                        await client.response()
        await proxy.idle()
        assert proxy.requests()["GET", "200"] == len(whole) - head_end
        assert proxy.cell(0, SERVER_ERRORS) == len(whole) - head_end


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_until_close_that_is_reset_instead(version: bytes) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
        await gone.wait()
        end.reset()

    gone = trio.Event()
    async with front(Origin(script)) as proxy, proxy.client() as client:
        await client.send(b"GET / HTTP/%s\r\nHost: a\r\n\r\n" % version)
        await client.head()
        await client.take(5)
        gone.set()
        with pytest.raises(Torn):
            await client.rest()
        await proxy.idle()
        assert proxy.errors() == {"reset": 1}


async def test_a_large_body_that_breaks_off() -> None:
    cut = 900 * KIB

    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % MIB + body_of(cut))
        await gone.wait()
        end.reset()

    gone = trio.Event()
    async with front(Origin(script)) as proxy, proxy.client() as client:
        await client.send(GET)
        await client.head()
        assert await client.take(cut) == body_of(cut)
        gone.set()
        assert not await client.closed()
        await proxy.idle()
        assert proxy.errors() == {"reset": 1}
        assert proxy.cell(0, RESPONSE_BYTES) == cut


BAD: dict[str, bytes] = {
    "no head": b"HELLO\r\n\r\n",
    "length and chunked": b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "101 unasked": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    "too large": b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000 + b"\r\n\r\n",
}


@pytest.mark.parametrize("name", BAD)
async def test_nonsense_is_a_502_on_a_connection_that_goes_on(name: str) -> None:
    origin = Origin(raw(BAD[name]))
    async with front(origin, pool={"retries": 0}) as proxy, proxy.client() as client:
        for _ in range(2):
            await client.send(GET)
            answer = await client.response()
            assert (answer.status, answer.has("connection")) == (502, False)
        assert proxy.errors() == {"bad_response": 2}
        assert proxy.codes() == {"502": 2}
    assert origin.opened == 2


async def test_a_bad_chunk_in_the_middle_cuts() -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n")
        await seen.wait()
        await end.send(b"zz\r\n")
        await end.closed()

    seen = trio.Event()
    async with front(Origin(script)) as proxy, proxy.client() as client:
        await client.send(GET)
        await client.head()
        assert await client.take(7) == b"2\r\nab\r\n"
        seen.set()
        assert not await client.closed()


@pytest.mark.parametrize("more", [b"garbage", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
@pytest.mark.parametrize("late", [False, True])
async def test_a_connection_with_trailing_garbage_is_never_used_again(more: bytes, late: bool) -> None:
    async def script(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            good = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
            if late:
                await end.send(good)
                await trio.testing.wait_all_tasks_blocked(0.001)
                await end.send(more)
            else:
                await end.send(good + more)

    origin = Origin(script)
    async with front(origin) as proxy, proxy.client() as client:
        for _ in range(3):
            await client.send(GET)
            assert (await client.response()).body == b"ok"
            await trio.testing.wait_all_tasks_blocked(0.005)
    assert origin.opened == 3
