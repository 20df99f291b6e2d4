"""Bodies in both directions, whole and as they were framed."""

import hashlib
import socket

import pytest
import trio
import trio.testing

from balancer.telemetry.table import REQUEST_BYTES, RESPONSE_BYTES
from tests.proxy.bodies import KIB, MIB, PATTERN, body_of
from tests.proxy.ends import End, Message, Origin, raw, requests
from tests.proxy.harness import front

SIZES = [1, *(size + by for size in (64 * KIB, 128 * KIB) for by in (-1, 0, 1)), MIB]


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
