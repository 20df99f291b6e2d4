"""Slow sides hold the fast ones back, within bounded memory and time."""

import resource

import pytest
import trio
import trio.testing

from balancer.net import splice
from balancer.telemetry.table import RESPONSE_BYTES
from tests.proxy.bodies import KIB, MIB, PATTERN, body_of
from tests.proxy.ends import AT_ONCE, PATIENCE, End, Origin, Torn
from tests.proxy.harness import GET, Front, front


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n" % (200 * MIB), b"Transfer-Encoding: chunked\r\n"])
async def test_a_slow_client_holds_the_backend_back(framing: bytes) -> None:
    sent = 0

    async def script(origin: Origin, end: End) -> None:
        nonlocal sent
        await end.request()
        await end.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n")
        piece = b"%x\r\n%s\r\n" % (MIB, PATTERN) if b"chunked" in framing else PATTERN
        for _ in range(200):
            await end.stream.send_all(piece)
            sent += MIB
            if sent == 40 * MIB:
                too_much.set()

    too_much = trio.Event()
    async with front(Origin(script)) as proxy, proxy.client(receive_buffer=64 * KIB) as client:
        before = peak()
        await client.send(GET)
        await client.head()
        # Kernel buffers and a piece are filled; the rest waits in the backend.
        with trio.move_on_after(0.3) as scope:
            await too_much.wait()
        assert scope.cancelled_caught
        assert peak() - before < 20 * MIB


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n" % (200 * MIB), b"Transfer-Encoding: chunked\r\n"])
async def test_a_slow_backend_holds_the_client_back(framing: bytes) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.head()
        await gone.wait()

    gone = trio.Event()
    async with front(Origin(script), proxy={"body_timeout": 30}) as proxy, proxy.client() as client:
        before = peak()
        await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")
        piece = b"%x\r\n%s\r\n" % (MIB, PATTERN) if b"chunked" in framing else PATTERN
        sent = 0
        # A client that gets nothing through for so long is being held back.
        with trio.move_on_after(1) as scope:
            while sent < 200:
                await client.stream.send_all(piece)
                sent += 1
                scope.deadline = trio.current_time() + 0.3
        assert sent < 40
        assert peak() - before < 20 * MIB
        client.reset()
        with trio.fail_after(AT_ONCE):
            await proxy.idle()
        gone.set()


async def test_a_drip_is_not_held_back_by_the_low_water_mark() -> None:
    size = 4 * splice.LOW_WATER

    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for number in range(4):
            await ticks[number].wait()
            await end.send(b"%d" % number)
        await end.send(body_of(size - 4))
        await end.closed()

    ticks = [trio.Event() for _ in range(4)]
    async with front(Origin(script)) as proxy, proxy.client() as client:
        await client.send(GET)
        await client.head()
        for number in range(4):
            await proxy.quiet()
            ticks[number].set()
            with trio.fail_after(AT_ONCE):
                assert await client.take(1) == b"%d" % number
        assert await client.take(size - 4) == body_of(size - 4)


@pytest.mark.parametrize("size", [100 * KIB, 20 * MIB])
async def test_a_client_that_does_not_read(size: int) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.request()
        await end.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + bytes(size))
        await end.closed()

    async with (
        front(Origin(script), proxy={"body_timeout": 0.2}) as proxy,
        proxy.client(receive_buffer=4 * KIB) as client,
    ):
        await client.send(GET)
        await client.head()
        if size > 10 * MIB:
            with trio.fail_after(PATIENCE):
                await proxy.idle()
            assert proxy.codes() == {"499": 1}
            assert 0 < proxy.cell(0, RESPONSE_BYTES) < size
        else:
            # The kernel has taken all of it: nobody needs to know that the client is slow.
            assert len(await client.take(size)) == size


async def test_the_backend_that_stops_in_the_middle() -> None:
    async def script(origin: Origin, end: End) -> None:
        request = await end.request()
        framing = (
            b"Transfer-Encoding: chunked\r\n\r\n2\r\nab" if request.target == "/c" else b"Content-Length: 9\r\n\r\nab"
        )
        await end.send(b"HTTP/1.1 200 OK\r\n" + framing)
        await end.closed()
        ended.append(request.target)

    ended: list[str] = []

    async def stalled(proxy: Front, target: bytes) -> None:
        async with proxy.client() as client:
            await client.send(b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n" % target)
            with pytest.raises(Torn):
                await client.response()

    async with front(Origin(script), proxy={"body_timeout": 0.1}) as proxy:
        await stalled(proxy, b"/c")
        await stalled(proxy, b"/l")
        await proxy.origins[0].until(lambda origin: origin.open == 0)
        assert proxy.errors() == {"response_body_timeout": 2}
    assert ended == ["/c", "/l"]


@pytest.mark.parametrize("framing", [b"Content-Length: %d\r\n" % (200 * MIB), b"Transfer-Encoding: chunked\r\n"])
async def test_a_backend_that_neither_reads_nor_answers(framing: bytes) -> None:
    async def script(origin: Origin, end: End) -> None:
        await end.head()
        await gone.wait()

    gone = trio.Event()
    async with front(Origin(script), proxy={"body_timeout": 0.2}) as proxy, proxy.client() as client:

        async def upload() -> None:
            piece = b"%x\r\n%s\r\n" % (MIB, PATTERN) if b"chunked" in framing else PATTERN
            try:
                await client.stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")
                for _ in range(200):
                    await client.stream.send_all(piece)
            except trio.BrokenResourceError:
                pass

        async with trio.open_nursery() as nursery:
            nursery.start_soon(upload)
            with trio.fail_after(PATIENCE):
                assert (await client.head()).status == 504
            nursery.cancel_scope.cancel()
        client.reset()
        gone.set()
        await proxy.idle()
        assert proxy.errors() == {"response_timeout": 1}
