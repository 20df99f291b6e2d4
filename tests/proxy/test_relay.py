"""Bodies in both directions: whole, unbuffered, and never torn without the client being able to tell."""

import hashlib
import random
import resource
import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from balancer.net import splice
from balancer.telemetry.table import REQUEST_BYTES, RESPONSE_BYTES, SERVER_ERRORS
from tests.proxy.ends import End, Message, Origin, Torn, raw, requests
from tests.proxy.harness import GET, Front, front

KIB = 1024
MIB = 1024 * KIB
SIZES = [1, *(size + by for size in (64 * KIB, 128 * KIB) for by in (-1, 0, 1)), MIB]
PATTERN = random.Random(1).randbytes(MIB)


def body_of(size: int) -> bytes:
    """So many bytes, none of them like its neighbours."""
    return (PATTERN * (size // MIB + 1))[:size]


async def mirror(origin: Origin, end: End) -> None:
    """Send every body back as it came: chunked or by length."""
    async for request in requests(origin, end):
        body = request.body
        if request.has("transfer-encoding"):
            trailers = "".join(f"{name}: {value}\r\n" for name, value in request.trailers).encode()
            pieces = (body[at : at + 9999] for at in range(0, len(body), 9999))
            coded = b"".join(b"%x;x=y\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            await end.send(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + coded + b"0\r\n" + trailers + b"\r\n"
            )
        else:
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)


async def exchanged(client: End, request: bytes, method: str = "POST") -> Message:
    """Send while receiving: what is mirrored unbuffered must be read."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.send, request)
        return await client.response(method)


async def test_bodies_of_known_length() -> None:
    origin = Origin(mirror)
    async with front(origin) as proxy, proxy.client() as client:
        for size in SIZES:
            body = body_of(size)
            got = await exchanged(client, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size + body)
            assert got.body == body
            assert origin.requests.pop().body == body
        assert origin.opened == 1
        total = sum(SIZES)
        assert (proxy.cell(0, REQUEST_BYTES), proxy.cell(0, RESPONSE_BYTES)) == (total, total)
        for wire in proxy.proxy.service.poller.wires.values():
            assert wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1


async def test_chunked_bodies_with_trailers() -> None:
    origin = Origin(mirror)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with front(origin) as proxy, proxy.client() as client:
        for size in (0, *SIZES):
            body = body_of(size)
            pieces = [body[at : at + 70000] for at in range(0, size, 70000)]
            coded = b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)
            got = await exchanged(client, head + coded + b"0\r\nX-Sum: 5\r\nHost: evil\r\n\r\n")
            assert got.body == body
            assert got.trailers == [("X-Sum", "5")]
            seen = origin.requests.pop()
            assert (seen.body, seen.trailers, seen.one("te")) == (body, [("X-Sum", "5")], "trailers")
        assert origin.opened == 1
        assert (await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200
        assert proxy.cell(0, RESPONSE_BYTES) == sum(SIZES)


@pytest.mark.parametrize(("version", "chunked"), [(b"1.1", True), (b"1.0", False)])
async def test_a_body_until_the_backend_closes(version: bytes, chunked: bool) -> None:
    body = body_of(300 * KIB)
    async with front(Origin(raw(b"HTTP/1.1 200 OK\r\n\r\n", body, close=True))) as proxy:
        async with proxy.client() as client:
            await client.send(b"GET / HTTP/%s\r\nHost: a\r\nConnection: keep-alive\r\n\r\n" % version)
            got = await client.response()
            assert got.body == body
            assert got.has("transfer-encoding") is chunked
            assert got.closed is not chunked
        assert proxy.cell(0, RESPONSE_BYTES) == len(body)


async def test_chunks_to_an_old_client_come_as_they_are() -> None:
    script = raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n", b"1\r\nc\r\n0\r\nX: 1\r\n\r\n")
    async with front(Origin(script)) as proxy:
        got = await proxy.ask(b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n")
        assert (got.body, got.closed, got.all("connection")) == (b"abc", True, ["close"])


def peak() -> int:
    """Bytes of memory that this process has had at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * KIB


async def test_50_mib_down_and_up_through_pipes() -> None:
    size = 50 * MIB

    async def script(origin: Origin, end: End) -> None:
        head = await end.head()
        digest = hashlib.blake2b()
        left = int(head.one("content-length"))
        while left:
            data = await end.take(min(left, MIB))
            digest.update(data)
            left -= len(data)
        origin.got(head)
        head.body = digest.digest()
        await end.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(50):
            await end.stream.send_all(PATTERN)
        await end.closed()

    expected = hashlib.blake2b(PATTERN * 50).digest()
    async with front(Origin(script), proxy={"body_timeout": 5}) as proxy, proxy.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(50):
            await client.stream.send_all(PATTERN)
        await client.head()
        digest = hashlib.blake2b()
        for _ in range(50):
            digest.update(await client.take(MIB))
        assert digest.digest() == expected == proxy.origins[0].requests[0].body
        for wire in proxy.proxy.service.poller.wires.values():
            assert wire.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
        await proxy.quiet()
        assert proxy.cell(0, REQUEST_BYTES) == proxy.cell(0, RESPONSE_BYTES) == size


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
        with trio.fail_after(0.1):
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
            with trio.fail_after(0.25):
                assert await client.take(1) == b"%d" % number
        assert await client.take(size - 4) == body_of(size - 4)


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
            with trio.fail_after(1):
                await proxy.idle()
            assert proxy.codes() == {"499": 1}
            assert 0 < proxy.cell(0, RESPONSE_BYTES) < size
        else:
            # The kernel has taken all of it: nobody needs to know that the client is slow.
            assert len(await client.take(size)) == size


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


async def pieces_of(client: End) -> AsyncIterator[bytes]:
    """What comes, as it comes."""
    while data := await client.more():
        yield data


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
            with trio.fail_after(1):
                assert (await client.head()).status == 504
            nursery.cancel_scope.cancel()
        client.reset()
        gone.set()
        await proxy.idle()
        assert proxy.errors() == {"response_timeout": 1}
