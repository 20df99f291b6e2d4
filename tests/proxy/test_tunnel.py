"""After an upgrade: bytes both ways, from the first one behind the heads to the half-closed end."""

import pytest
import trio

from balancer.telemetry.table import REQUEST_BYTES, RESPONSE_BYTES
from tests.proxy.ends import AT_ONCE, End, Origin, Torn
from tests.proxy.harness import front

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: x\r\n\r\n"
SWITCH = (
    b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: y\r\n\r\n"
)


async def echo(origin: Origin, end: End) -> None:
    """Accept the upgrade, greet, then send back what comes until it ends, and say goodbye."""
    origin.got(await end.head())
    await end.send(SWITCH + b"hello ")
    while end.buffer or await end.more():
        data, end.buffer = end.buffer, b""
        await end.send(data)
    await end.send(b" bye")


async def test_bytes_behind_both_heads_and_half_close() -> None:
    origin = Origin(echo)
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(UPGRADE + b"early")
        head = await client.head()
        assert (head.status, head.one("connection"), head.one("upgrade")) == (101, "Upgrade", "websocket")
        assert head.one("sec-websocket-accept") == "y"
        assert await client.take(11) == b"hello early"
        await client.send(bytes(200000))
        assert len(await client.take(200000)) == 200000
        # Our side ends; the other direction goes on until the backend has said all.
        await client.stream.send_eof()
        assert await client.rest() == b" bye"
        await proxy.idle()
        assert proxy.codes() == {"101": 1}
        assert proxy.cell(0, REQUEST_BYTES) == 200005
        assert proxy.cell(0, RESPONSE_BYTES) == 200000 + 15
    seen = origin.requests[0]
    assert (seen.one("connection"), seen.one("upgrade"), seen.one("sec-websocket-key")) == ("Upgrade", "websocket", "x")


@pytest.mark.parametrize("who", ["client", "backend"])
async def test_a_break_on_one_side_ends_both(who: str) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(SWITCH)
        if who == "backend":
            await go.wait()
            end.reset()
        else:
            await end.closed()

    go = trio.Event()
    origin = Origin(script)
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(UPGRADE)
        await client.head()
        if who == "client":
            client.reset()
        else:
            go.set()
            await client.closed(AT_ONCE)
        await origin.until(lambda origin: origin.open == 0, AT_ONCE)
        await proxy.idle()
        assert proxy.codes() == {"101": 1}


async def test_a_refused_upgrade_is_an_ordinary_answer() -> None:
    origin = Origin(answer=b"HTTP/1.1 426 No\r\nUpgrade: websocket\r\nConnection: upgrade\r\nContent-Length: 0\r\n\r\n")
    async with front(origin) as proxy, proxy.client() as client:
        for _ in range(2):
            await client.send(UPGRADE)
            answer = await client.response()
            assert (answer.status, answer.one("upgrade"), answer.one("connection")) == (426, "websocket", "upgrade")
    assert origin.opened == 1


async def test_an_upgrade_that_the_client_may_not_ask_for() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        for version, upgrade in ((b"1.0", b"websocket"), (b"1.1", b"h2c")):
            request = b"GET / HTTP/%s\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n" % (version, upgrade)
            assert (await proxy.ask(request)).status == 200
    assert not any(request.has("upgrade") or request.has("connection") for request in origin.requests)


async def test_a_stop_ends_tunnels_with_its_deadline() -> None:
    origin = Origin(echo)
    async with front(origin, proxy={"shutdown_timeout": 0.2}) as proxy, proxy.client() as client:
        await client.send(UPGRADE)
        await client.head()
        proxy.say("stop")
        await proxy.until(lambda front: not front.is_running, 1)
        with pytest.raises(Torn):
            await client.rest()
