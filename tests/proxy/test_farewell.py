"""Streams without an end on a backend that drains: ended one after another over the drain, each as its protocol wants it."""

from time import monotonic

import pytest
import trio

from balancer.http1.websocket import GOING_AWAY
from tests.proxy.ends import End, Origin, Torn
from tests.proxy.harness import Front, backend, front

UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n"
EVENTS = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\nTransfer-Encoding: chunked\r\n\r\n"
CLOSE = b"\x88\x82mask" + bytes(a ^ b for a, b in zip(b"\x03\xe9", b"ma", strict=True))  # a client's answer: masked


async def drain(proxy: Front, origin: Origin, seconds: float) -> float:
    """Have the only backend drain for so long; when it began."""
    began = monotonic()
    picture = backend(0, origin.port, takes_requests=False, draining=True, drain_until=began + seconds)
    await proxy.apply(backends=(picture,))
    return began


async def listener(origin: Origin, end: End) -> None:
    """A WebSocket that says nothing, and closes when it is told that the client does."""
    await end.head()
    await end.send(SWITCH % b"websocket")
    await end.take(len(CLOSE))


async def test_websockets_are_told_one_after_another() -> None:
    count, seconds = 60, 3.0
    told: list[float] = []
    origin = Origin(listener)

    async def chat(proxy: Front, ready: trio.Event) -> None:
        async with proxy.client() as client:
            await client.send(UPGRADE % b"websocket")
            assert (await client.head()).status == 101
            connected.append(client)
            if len(connected) == count:
                ready.set()
            assert await client.take(len(GOING_AWAY)) == GOING_AWAY
            told.append(monotonic())
            await client.send(CLOSE)
            assert await client.rest() == b""  # the backend's own end, and nothing after our close frame

    connected: list[End] = []
    async with front(origin) as proxy, trio.open_nursery() as nursery:
        ready = trio.Event()
        for _ in range(count):
            nursery.start_soon(chat, proxy, ready)
        await ready.wait()
        began = await drain(proxy, origin, seconds)
        await proxy.until(lambda front: bool(front.heard("drained")), 2 * seconds)
    assert len(told) == count
    # In each third of the time a third of them, but for what a busy machine shifts.
    thirds = [sum(int(3 * (at - began) / seconds) == third for at in told) for third in range(3)]
    assert all(0.5 * count / 3 <= third <= 1.5 * count / 3 for third in thirds), thirds
    assert proxy.codes() == {"101": count}
    assert not proxy.errors()


async def test_a_frame_is_finished_before_the_farewell() -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(SWITCH % b"websocket" + b"\x82\x05he")
        await go.wait()
        await end.send(b"llo\x82\x05never")
        await end.take(len(CLOSE))

    go = trio.Event()
    origin = Origin(script)
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(UPGRADE % b"WebSocket")
        await client.head()
        assert await client.take(4) == b"\x82\x05he"
        await drain(proxy, origin, 0.01)
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.4):
            await client.take(1)
        go.set()
        # What is whole passes; what we say stands behind it.
        assert await client.take(10) == b"llo\x82\x05never"
        assert await client.take(4) == GOING_AWAY
        await client.send(CLOSE)
        assert await client.rest() == b""


@pytest.mark.parametrize("who", ["a client that does not answer", "a frame that is never finished", "another protocol"])
async def test_whoever_does_not_part_is_cut_off(who: str) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(SWITCH % protocol)
        if "frame" in who:
            await end.send(b"\x82\x05he")
        await end.closed()

    protocol = b"telnet" if "protocol" in who else b"websocket"
    origin = Origin(script)
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(UPGRADE % protocol)
        await client.head()
        if "frame" in who:
            assert await client.take(4) == b"\x82\x05he"
        await drain(proxy, origin, 0.01)
        if "answer" in who:
            assert await client.take(len(GOING_AWAY)) == GOING_AWAY
        await client.closed(4)
        await proxy.until(lambda front: bool(front.heard("drained")))


async def test_an_event_stream_is_ended_and_a_download_is_not() -> None:
    async def script(origin: Origin, end: End) -> None:
        head = await end.head()
        if head.target == "/events":
            await end.send(EVENTS + b"9\r\ndata: 1\n\n\r\n")
            await end.closed()
        else:
            await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
            await go.wait()
            await end.send(b"3\r\ntwo\r\n0\r\n\r\n")

    go = trio.Event()
    origin = Origin(script)
    async with front(origin) as proxy, proxy.client() as events, proxy.client() as download:
        await events.send(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n")
        await events.head()
        assert await events.take(14) == b"9\r\ndata: 1\n\n\r\n"
        await download.send(b"GET /download HTTP/1.1\r\nHost: a\r\n\r\n")
        await download.head()
        await drain(proxy, origin, 0.01)
        # Ended, but not as if it were whole.
        assert await events.rest() == b""
        assert not proxy.heard("drained")
        go.set()
        assert (await download.take(8)) == b"3\r\none\r\n"
        assert (await download.take(13)) == b"3\r\ntwo\r\n0\r\n\r\n"
        await proxy.until(lambda front: bool(front.heard("drained")))
    assert proxy.errors() == {"draining": 1}


async def test_nothing_is_said_while_a_backend_serves() -> None:
    origin = Origin(listener)
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(UPGRADE % b"websocket")
        await client.head()
        with pytest.raises(trio.TooSlowError), trio.fail_after(0.5):
            await client.take(1)
        await client.send(CLOSE)
        with pytest.raises(Torn):
            await client.take(1)
