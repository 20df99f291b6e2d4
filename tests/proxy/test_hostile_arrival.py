"""Before the first request: PROXY headers, networks that may not come, connections and requests that are too many."""

import resource
import struct
from contextlib import AsyncExitStack

import pytest
import trio

from balancer.net import proxy_protocol
from balancer.pool.snapshot import LimitPicture
from tests.proxy.ends import AT_ONCE, End, Origin
from tests.proxy.harness import GET, Front, front

V1 = b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n"
_TLS = struct.pack("!BHB4x", 0x20, 5, 1)
V2_TLS = (
    b"\r\n\r\n\x00\r\nQUIT\n"
    + struct.pack("!BBH", 0x21, 0x11, 12 + len(_TLS))
    + bytes((203, 0, 113, 7))
    + bytes(8)
    + _TLS
)
LOCAL = b"\r\n\r\n\x00\r\nQUIT\n" + struct.pack("!BBH", 0x20, 0, 0)
ANNOUNCED = {"proxy_protocol": True}


@pytest.mark.parametrize(
    ("header", "address", "proto"),
    [
        (V1, "203.0.113.7", "http"),
        (V2_TLS, "203.0.113.7", "https"),
        (LOCAL, "127.0.0.1", "http"),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1", "http"),
    ],
)
async def test_the_client_is_who_the_header_says(header: bytes, address: str, proto: str) -> None:
    origin = Origin()
    async with front(origin, listener=ANNOUNCED) as proxy, proxy.client() as client:
        for byte in header[:5]:
            await client.send(bytes([byte]))
            await proxy.quiet()
        await client.send(header[5:] + GET + GET)
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
    for seen in origin.requests:
        assert seen.one("x-forwarded-for") == address
        assert seen.one("x-forwarded-proto") == proto
        assert seen.one("forwarded").startswith(f"for={address};")


async def test_trust_goes_by_the_announced_address() -> None:
    origin = Origin()
    claim = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 6.6.6.6\r\n\r\n"
    for trusted, expected in (("203.0.113.0/24", "6.6.6.6, 203.0.113.7"), ("127.0.0.0/8", "203.0.113.7")):
        async with front(origin, listener={**ANNOUNCED, "trusted_proxies": (trusted,)}) as proxy:
            await proxy.ask(V1 + claim)
        assert origin.requests.pop().one("x-forwarded-for") == expected


@pytest.mark.parametrize(
    "sent", [GET, b"\x16\x03\x01\x00\x01", b"PROXY TCP4 nonsense\r\n" + GET, V1[:-2] + b"\n" + GET]
)
async def test_no_header_no_service(sent: bytes) -> None:
    origin = Origin()
    async with front(origin, listener=ANNOUNCED) as proxy:
        for _ in range(3):
            async with proxy.client() as client:
                await client.send(sent)
                await client.closed()
        assert proxy.errors() == {"bad_proxy_header": 3}
        assert len([m for m in proxy.heard("log") if "PROXY" in m["event"]]) == 1
    assert not origin.opened


async def test_a_header_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy_protocol.receive_header, "__defaults__", (0.2,))
    async with front(Origin(), listener=ANNOUNCED) as proxy:
        for begun in (b"", V1[:10], V2_TLS[:20]):
            async with proxy.client() as client:
                await client.send(begun)
                assert await client.closed(1) is (begun == b"")
    assert proxy_protocol.TIMEOUT == 5


async def test_without_the_setting_a_header_is_a_bad_request() -> None:
    async with front(Origin()) as proxy:
        assert (await proxy.ask(V1 + GET)).status == 400


async def refused(proxy: Front, request: bytes = GET) -> tuple[int, str]:
    """(status, reason) of the refusal of one request on a connection of its own, which ends with it."""
    async with proxy.client() as client:
        await client.send(request)
        answer = await client.response()
        assert answer.one("connection") == "close"
        assert await client.closed()
    return answer.status, answer.one("proxy-status").rpartition("details=")[2].strip('"')


async def test_networks() -> None:
    origin = Origin()
    denied = {"limit": LimitPicture(deny=("127.0.0.0/8",))}
    async with front(origin, listener=denied) as proxy:
        assert await refused(proxy) == (403, "denied")
        assert await refused(proxy, b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n") == (403, "denied")
        async with proxy.client() as client:  # says nothing
            assert await client.closed(3)
        assert proxy.codes() == {"403": 2}
    assert not origin.opened
    async with front(origin, listener={**ANNOUNCED, "limit": LimitPicture(allow=("203.0.113.7",))}) as proxy:
        assert (await proxy.ask(V1 + GET)).status == 200
        assert await refused(proxy, LOCAL + GET) == (403, "denied")


async def test_connections_of_one_address() -> None:
    async with front(Origin(), listener={**ANNOUNCED, "limit": LimitPicture(connections=2)}) as proxy:
        async with proxy.client() as first, proxy.client() as second:
            for client in (first, second):
                await client.send(V1 + GET)
                assert (await client.response()).status == 200
            answer = await proxy.ask(V1 + GET)
            assert (answer.status, answer.one("retry-after")) == (429, "1")
            assert 'details="too_many_connections"' in answer.one("proxy-status")
            assert (await proxy.ask(V1.replace(b".7 ", b".8 ") + GET)).status == 200
            await first.send(GET)
            assert (await first.response()).status == 200
        await proxy.idle()
        assert (await proxy.ask(V1 + GET)).status == 200


async def test_a_flood_of_connections_gets_no_answers() -> None:
    async with front(Origin(), listener={"limit": LimitPicture(connections=2)}) as proxy:
        async with trio.open_nursery() as nursery:
            ends: list[End] = []
            held = trio.Event()

            async def hold() -> None:
                async with proxy.client() as client:
                    ends.append(client)
                    await held.wait()

            for _ in range(4):
                nursery.start_soon(hold)
            await proxy.quiet()
            async with proxy.client() as client:
                await client.closed(AT_ONCE)
            held.set()
        assert not proxy.errors()


async def test_requests_of_one_address() -> None:
    origin = Origin()
    async with front(origin, listener={"limit": LimitPicture(rate=1 / 3600, burst=3)}) as proxy:
        async with proxy.client() as client:
            for _ in range(2):
                await client.send(GET)
                assert (await client.response()).status == 200
            # Another connection is the same client.
            assert (await proxy.ask()).status == 200
            post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi"
            await client.send(GET + post)
            for _ in range(2):
                answer = await client.response()
                assert answer.status == 429
                assert 3590 <= int(answer.one("retry-after")) <= 3600
                assert not answer.has("connection")
        assert proxy.errors() == {"too_many_requests": 2}
        # Live: a reload that lifts the limit holds for the connections that are there.
        async with proxy.client() as client:
            await client.send(GET)
            assert (await client.response()).status == 429
            (listener,) = proxy.snapshot.listeners
            await proxy.apply(listeners=(type(listener)("web", 0, "web"),))
            await client.send(GET)
            assert (await client.response()).status == 200
    assert len(origin.requests) == 4


async def test_who_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """At `max_connections`: the one that has been idle longest; when none is idle, one whose head does not come."""
    monkeypatch.setattr("balancer.proxy.listener._SLOW_HEAD", 0.05)
    limits = {"max_connections": 3, "header_timeout": 30}
    async with (
        front(Origin(), proxy=limits) as proxy,
        proxy.client() as oldest,
        proxy.client() as slow,
        proxy.client() as newest,
    ):
        await oldest.send(GET)
        await oldest.response()
        await slow.send(GET[:10])
        await newest.send(GET)
        await newest.response()
        assert (await proxy.ask()).status == 200
        assert await oldest.closed()
        assert (await proxy.ask()).status == 200
        await newest.send(GET[:10])
        async with proxy.client() as other:
            await other.send(GET[:10])
            await proxy.quiet()
            assert (await proxy.ask()).status == 200
            assert await slow.closed()


async def test_half_of_the_descriptors_are_for_backends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (208, 4096))
    async with front(Origin(), proxy={"header_timeout": 30}) as proxy, AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(proxy.client()) for _ in range(45)]
        assert (await proxy.ask()).status == 200
        for client in clients[:5]:
            assert await client.closed(2)
        assert len(proxy.proxy.service.clients) <= 40
        assert any("open files" in message["event"] for message in proxy.heard("log"))
