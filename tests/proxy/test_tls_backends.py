"""TLS towards backends."""

import select
import time
from typing import Any

import pytest
import trio

from balancer.net.contexts import ClientTls
from tests.proxy.ends import End, Origin, Torn, requests
from tests.proxy.harness import GET
from tests.proxy.secure import speaking, towards
from tests.support.certificates import Authority, Files


async def test_a_backend_over_tls(authority: Authority, site: Files) -> None:
    origin = Origin(speaking(site))
    async with towards(origin, ClientTls("localhost", ca=authority.pem.decode())) as proxy, proxy.client() as end:
        for _ in range(3):
            await end.send(GET)
            assert (await end.response()).body == b"ok"
            await proxy.quiet()
        # What TLS has to say for itself, such as a ticket that comes late, is no reason to close it.
        (kept,) = proxy.proxy.view.pools["web"].backends[0].idle
        kept.wire.on_events(select.EPOLLIN)
        await end.send(GET)
        assert (await end.response()).body == b"ok"
        assert origin.opened == 1


async def test_a_backend_must_be_who_it_should_be(authority: Authority, site: Files) -> None:
    other = Authority(authority.folder, "another")
    wrong = (
        ClientTls("elsewhere.example", ca=authority.pem.decode()),
        ClientTls("localhost", ca=other.pem.decode()),
        ClientTls("localhost"),
    )
    for tls in wrong:
        async with towards(Origin(speaking(site)), tls) as proxy:
            answer = await proxy.ask()
            assert answer.status == 502
            assert "tls_protocol_error" in answer.one("proxy-status")
            assert proxy.errors() == {"tls_failed": 1}
    async with towards(Origin(speaking(site)), ClientTls("elsewhere.example", verify=False)) as proxy:
        assert (await proxy.ask()).status == 200


async def test_we_show_the_backend_who_we_are(authority: Authority, site: Files) -> None:
    us = authority.issue("us.example")
    ca = authority.pem.decode()
    shown = ClientTls("localhost", ca=ca, cert=us.cert.read_text(), key=us.key.read_text())
    for tls, status in ((shown, 200), (ClientTls("localhost", ca=ca), 502)):
        async with towards(Origin(speaking(site, ca=str(authority.file))), tls) as proxy:
            assert (await proxy.ask()).status == status


async def test_a_backend_that_speaks_no_tls(authority: Authority) -> None:
    async with towards(Origin(), ClientTls("localhost", ca=authority.pem.decode())) as proxy:
        assert (await proxy.ask()).status in (502, 504)


async def test_a_backend_whose_handshake_does_not_come(authority: Authority) -> None:
    async def silent(_: Origin, end: End) -> None:
        await end.rest()

    tls = ClientTls("localhost", ca=authority.pem.decode())
    origin = Origin(silent)
    async with towards(origin, tls, pool={"connect_timeout": 0.3, "retries": 0}) as proxy:
        started = time.monotonic()
        assert (await proxy.ask()).status == 504
        assert time.monotonic() - started < 2


async def test_a_body_that_somebody_cut_is_not_whole(authority: Authority, site: Files) -> None:
    """Without a length, only close_notify says that this was all."""

    async def cut(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await end.stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nhalf of it")
            stream: Any = end.stream
            await stream.transport_stream.send_eof()
            await stream.transport_stream.receive_some(1)
            return

    async def whole(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await end.stream.send_all(b"HTTP/1.1 200 OK\r\n\r\nall of it")
            await end.stream.aclose()
            return

    tls = ClientTls("localhost", ca=authority.pem.decode())
    async with towards(Origin(speaking(site, cut)), tls) as proxy:
        with pytest.raises(Torn):
            await proxy.ask()
    async with towards(Origin(speaking(site, whole)), tls) as proxy:
        assert (await proxy.ask()).body == b"all of it"


async def test_large_bodies_from_and_to_a_backend_over_tls(authority: Authority, site: Files) -> None:
    body = bytes(range(256)) * 8192

    async def echo(origin: Origin, end: End) -> None:
        async for message in requests(origin, end):
            await end.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(message.body))
            await end.stream.send_all(message.body)

    tls = ClientTls("localhost", ca=authority.pem.decode())
    front_door = towards(Origin(speaking(site, echo)), tls)
    async with front_door as proxy, proxy.client() as end, trio.open_nursery() as nursery:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
        nursery.start_soon(end.stream.send_all, head + body)
        assert (await end.response()).body == body


async def test_a_backend_that_closes_a_kept_connection_costs_nobody_an_answer(
    authority: Authority, site: Files
) -> None:
    async def once(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            await end.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await end.stream.aclose()
            return

    origin = Origin(speaking(site, once))
    async with towards(origin, ClientTls("localhost", ca=authority.pem.decode())) as proxy, proxy.client() as end:
        for number in range(5):
            await end.send(GET)
            assert (await end.response()).status == 200
            await origin.until(lambda o: not o.open)
            await proxy.quiet()
            assert origin.opened == number + 1
