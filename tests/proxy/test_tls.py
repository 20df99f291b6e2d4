"""TLS at the front door: handshakes, certificates, bodies and ends."""

import ssl
import time
from contextlib import suppress
from typing import Any

import pytest
import trio

from balancer.proxy import security
from tests.proxy.ends import PATIENCE, End, Origin, Torn, raw, requests
from tests.proxy.harness import GET, front
from tests.proxy.secure import client, handshakes, secure, trusting
from tests.support.certificates import Authority, Files, server_tls
from tests.support.packets import data_packets


async def test_requests_on_a_kept_connection(authority: Authority, site: Files) -> None:
    origin = Origin()
    async with secure(origin, site=site) as proxy, client(proxy, trusting(authority)) as (end, stream):
        for _ in range(3):
            await end.send(GET)
            answer = await end.response()
            assert (answer.status, answer.body) == (200, b"ok")
        assert stream.selected_alpn_protocol() is None
        assert stream.version() == "TLSv1.3"
        assert origin.opened == 1
        asked = origin.requests[0]
        assert asked.one("x-forwarded-proto") == "https"
        assert "proto=https" in asked.one("forwarded")
        assert handshakes(proxy) == (1, 0, 0)


async def test_the_last_answer_leaves_in_one_packet_with_the_end(authority: Authority, site: Files) -> None:
    async with secure(Origin(), site=site) as proxy, client(proxy, trusting(authority)) as (end, stream):
        await end.send(GET)
        await end.response()
        before = data_packets(stream.transport_stream.socket)
        await end.send(GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        assert (await end.response()).status == 200
        assert await end.closed()
        assert data_packets(stream.transport_stream.socket) == before + 1


async def test_alpn_is_http_1_1(authority: Authority, site: Files) -> None:
    context = trusting(authority)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with secure(Origin(), site=site) as proxy, client(proxy, context) as (_, stream):
        assert stream.selected_alpn_protocol() == "http/1.1"


async def test_the_name_that_is_asked_for_chooses_the_certificate(authority: Authority, site: Files) -> None:
    tls = server_tls(site, authority.issue("b.example"), authority.issue("*.c.example"))
    async with secure(Origin(), site=tls) as proxy:
        for name in ("b.example", "B.Example", "x.c.example"):
            async with client(proxy, trusting(authority), name) as (end, _):
                await end.send(GET)
                assert (await end.response()).status == 200
        # Not theirs: the default's certificate comes, and it is the client who objects.
        for name in ("c.example", "x.y.c.example", "nobody.example"):
            with pytest.raises(trio.BrokenResourceError):
                async with client(proxy, trusting(authority), name):
                    pass
        async with client(proxy, trusting(authority), "localhost") as (end, _):
            await end.send(GET)
            assert (await end.response()).status == 200


async def test_only_sound_versions(authority: Authority, site: Files) -> None:
    tls = server_tls(site, min_version="1.3")
    async with secure(Origin(), site=tls) as proxy:
        context = trusting(authority)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises(trio.BrokenResourceError) as caught:
            async with client(proxy, context):
                pass
        # The client has read why: the connection was not reset under it.
        assert "protocol version" in str(caught.value.__cause__)
        await proxy.idle()
        assert handshakes(proxy) == (0, 0, 1)


async def test_sessions_are_resumed(authority: Authority, site: Files) -> None:
    context = trusting(authority)
    async with secure(Origin(), site=site) as proxy:
        async with client(proxy, context) as (end, stream):
            await end.send(GET)
            await end.response()
            session = stream._ssl_object.session
        # The same again is nothing new: the keys of the tickets stay.
        proxy.say("tls", listeners={"web": server_tls(site).to_json()}, backends={})
        await proxy.apply()
        plain = await trio.open_tcp_stream(*proxy.address)
        again = trio.SSLStream(plain, context, server_hostname="localhost")
        again._ssl_object.session = session
        await again.do_handshake()
        assert again.session_reused
        await again.aclose()
        await proxy.idle()
        assert handshakes(proxy) == (1, 1, 0)


@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS", "BREW"])
async def test_plain_http_is_answered_in_plain(site: Files, method: str) -> None:
    async with secure(Origin(), site=site) as proxy, proxy.client() as end:
        await end.send(method.encode() + GET[3:])
        answer = await end.response()
        assert answer.status == 400
        assert b"plain_http" in answer.body
        assert await end.closed()
        assert proxy.errors() == {"plain_http": 1}


@pytest.mark.parametrize("data", [b"\0\1\2\3\4\5\6\7", b"\x16\x03\x01\x00\x05hello", b"\xff" * 4000, b"\r\n\r\n"])
async def test_garbage_is_cut(site: Files, data: bytes) -> None:
    async with secure(Origin(), site=site) as proxy:
        async with proxy.client() as end:
            await end.send(data)
            with suppress(Torn):
                assert not (await end.rest()).startswith(b"HTTP")
        await proxy.idle()
        assert handshakes(proxy) == (0, 0, 1)
        assert not proxy.errors()


async def test_who_only_looks_is_no_failure(site: Files) -> None:
    async with secure(Origin(), site=site) as proxy:
        async with proxy.client():
            pass
        await proxy.idle()
        assert handshakes(proxy) == (0, 0, 0)


async def test_a_handshake_has_its_deadline(site: Files) -> None:
    quick = secure(Origin(), site=site, listener={"handshake_timeout": 0.3})
    async with quick as proxy, proxy.client() as silent, proxy.client() as half:
        await half.send(b"\x16\x03\x01")
        started = time.monotonic()
        for end in (silent, half):
            with suppress(Torn):
                await end.rest()
        assert time.monotonic() - started > 0.2


async def test_half_done_handshakes_make_room_for_others(
    authority: Authority, site: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(security, "HANDSHAKES", 4)
    monkeypatch.setattr(security, "_STALLED", 0.2)
    async with secure(Origin(), site=site, listener={"handshake_timeout": 30.0}) as proxy:
        halves = [await trio.open_tcp_stream(*proxy.address) for _ in range(12)]
        for half in halves:
            await half.send_all(b"\x16\x03\x01\x00")
        async with client(proxy, trusting(authority)) as (end, _):
            await end.send(GET)
            assert (await end.response()).status == 200
            assert len(proxy.proxy.service.security._shaking) <= 4
        for half in halves:
            await half.aclose()


async def test_a_listener_without_certificates_is_never_plain(site: Files) -> None:
    told: dict[str, Any] = {"listeners": {}, "backends": {}}
    async with front(Origin(), listener={"tls": True}, tls=told) as proxy, proxy.client() as end:
        await end.send(GET)
        with suppress(Torn):
            assert await end.rest() == b""


async def test_new_certificates_are_for_new_connections(authority: Authority, site: Files) -> None:
    other = Authority(authority.folder, "other")
    async with secure(Origin(), site=site) as proxy, client(proxy, trusting(authority)) as (before, _):
        await before.send(GET)
        await before.response()
        renewed = server_tls(other.issue("localhost", stem="renewed"))
        proxy.say("tls", listeners={"web": renewed.to_json()}, backends={})
        await proxy.apply()
        async with client(proxy, trusting(other)) as (end, _):
            await end.send(GET)
            assert (await end.response()).status == 200
        await before.send(GET)
        assert (await before.response()).status == 200


async def test_broken_material_leaves_what_was_there(authority: Authority, site: Files) -> None:
    async with secure(Origin(), site=site) as proxy:
        bad = server_tls(site).to_json()
        bad["identities"][0]["chains"][0]["key"] = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"
        proxy.say("tls", listeners={"web": bad}, backends={})
        await proxy.apply()
        assert any("listen.web.tls" in message["event"] for message in proxy.heard("log"))
        assert "AAAA" not in str(proxy.told)
        async with client(proxy, trusting(authority)) as (end, _):
            await end.send(GET)
            assert (await end.response()).status == 200


# Bodies.


async def test_large_bodies_both_ways(authority: Authority, site: Files) -> None:
    body = bytes(range(256)) * 8192

    async def echo(origin: Origin, end: End) -> None:
        async for message in requests(origin, end):
            await end.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(message.body))
            await end.stream.send_all(message.body)

    async with secure(Origin(echo), site=site) as proxy, client(proxy, trusting(authority)) as (end, stream):
        async with trio.open_nursery() as nursery:
            head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
            nursery.start_soon(stream.send_all, head + body)
            answer = await end.response()
        assert answer.body == body


async def test_a_slow_reader_is_waited_for(authority: Authority, site: Files) -> None:
    body = bytes(4_000_000)
    origin = Origin(answer=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    async with secure(origin, site=site) as proxy, client(proxy, trusting(authority)) as (end, _):
        await end.send(GET)
        await end.head()
        await trio.sleep(0.2)  # not reading is what this is about
        assert await end.take(len(body)) == body


async def test_a_cut_response_has_no_end(authority: Authority, site: Files) -> None:
    """HTTP/1.0 knows the end of a body by the end of the connection: only close_notify makes it whole."""
    origin = Origin(raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf of it", close=True))
    async with secure(origin, site=site) as proxy, client(proxy, trusting(authority), bye=False) as (end, _):
        await end.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        await end.head()
        with pytest.raises(Torn):
            await end.rest()


async def test_a_whole_response_that_ends_with_the_connection(authority: Authority, site: Files) -> None:
    origin = Origin(raw(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True))
    async with secure(origin, site=site) as proxy, client(proxy, trusting(authority)) as (end, _):
        await end.send(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n")
        answer = await end.response()
        assert (answer.body, answer.closed) == (b"all of it", True)


async def test_a_client_that_leaves_ends_its_request(authority: Authority, site: Files) -> None:
    left = trio.Event()

    async def never(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            assert await end.closed()
            left.set()
            return

    origin = Origin(never)
    async with secure(origin, site=site) as proxy:
        async with client(proxy, trusting(authority)) as (end, _):
            await end.send(GET)
            await origin.until(lambda o: len(o.requests) == 1)
        with trio.fail_after(PATIENCE):
            await left.wait()
        await proxy.idle()
        assert proxy.codes() == {"499": 1}


async def test_a_websocket_is_carried(authority: Authority, site: Files) -> None:
    async def upgrade(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await end.stream.send_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\nwelcome"
            )
            while data := bytes(await end.stream.receive_some(65536)):
                await end.stream.send_all(data.upper())
            await end.stream.send_all(b" bye")
            return

    async with secure(Origin(upgrade), site=site) as proxy, client(proxy, trusting(authority)) as (end, stream):
        await end.send(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
        assert (await end.response()).status == 101
        assert await end.take(7) == b"welcome"
        await end.send(b"hello")
        assert await end.take(5) == b"HELLO"
        # Half-close: the client has ended, the backend has a last word.
        with suppress(ssl.SSLWantReadError):
            stream._ssl_object.unwrap()
        await stream.transport_stream.send_all(stream._outgoing.read())
        while data := await stream.transport_stream.receive_some(4096):
            stream._incoming.write(data)
        assert stream._ssl_object.read(100) == b" bye"
