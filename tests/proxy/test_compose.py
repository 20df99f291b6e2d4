"""Heads as the two sides get them: what stops here, what is added, who is believed."""

import re

import pytest

from tests.proxy.ends import End, Origin, requests
from tests.proxy.harness import front


async def test_http_1_0_without_a_host_reaches_the_backend_with_one() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        assert (await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200
    assert origin.requests[0].one("host") == f"127.0.0.1:{origin.port}"


HOP_BY_HOP = (
    b"Connection: X-Mine, close\r\nX-Mine: 1\r\nKeep-Alive: timeout=5\r\nProxy-Connection: x\r\nTE: gzip\r\nProxy: x\r\n"
    b"Proxy-Authorization: x\r\n"
)


async def test_hop_by_hop_fields_stop_here_in_both_directions() -> None:
    answer = (
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: X-Its, keep-alive\r\nX-Its: 1\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Authenticate: x\r\nUpgrade: h2\r\nSet-Cookie: a\r\nx-Odd: 1\r\nSet-Cookie: b\r\n\r\nok"
    )
    origin = Origin(answer=answer)
    async with front(origin) as proxy:
        got = await proxy.ask(
            b"GET / HTTP/1.1\r\nB: 1\r\nhost: a\r\nAccept: x\r\nA: 2\r\nACCEPT: y\r\n" + HOP_BY_HOP + b"\r\n"
        )
    names = [name for name, _ in got.fields]
    assert names[:4] == ["Content-Length", "Set-Cookie", "x-Odd", "Set-Cookie"]
    assert set(names[4:]) == {"Date", "X-Request-ID", "Connection"}
    assert got.one("connection") == "close"
    names = [name for name, _ in origin.requests[0].fields]
    assert names[:5] == ["B", "host", "Accept", "A", "ACCEPT"]
    added = {"X-Forwarded-For", "X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded", "Via", "X-Request-ID"}
    assert set(names[5:]) == added
    assert len(names) == 11


CLAIMS = (
    b"GET / HTTP/1.1\r\nHost: a.example\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nX_Forwarded_For: 7.7.7.7\r\n"
    b"Forwarded: for=6.6.6.6\r\nVia: 1.0 evil\r\nX-Request-ID: mine\r\ntraceparent: 00-1-2-3\r\n\r\n"
)


async def test_an_untrusted_client_is_not_believed() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        answer = await proxy.ask(CLAIMS)
    seen = origin.requests[0]
    assert seen.one("x-forwarded-for") == "127.0.0.1"
    assert seen.one("x-forwarded-proto") == "http"
    assert seen.one("x-forwarded-host") == "a.example"
    assert seen.one("forwarded") == "for=127.0.0.1;host=a.example;proto=http"
    assert seen.one("via") == "1.1 balancer"
    assert seen.one("traceparent") == "00-1-2-3"
    assert not seen.has("x_forwarded_for")
    assert re.fullmatch("[0-9a-f]{24}", seen.one("x-request-id"))
    assert answer.one("x-request-id") == seen.one("x-request-id")


async def test_a_trusted_proxy_is_believed_and_extended() -> None:
    origin = Origin()
    async with front(origin, listener={"trusted_proxies": ("10.0.0.0/8", "127.0.0.0/8")}) as proxy:
        answer = await proxy.ask(CLAIMS)
    seen = origin.requests[0]
    assert seen.one("x-forwarded-for") == "6.6.6.6, 127.0.0.1"
    assert seen.one("x-forwarded-proto") == "https"
    assert seen.one("forwarded") == "for=6.6.6.6, for=127.0.0.1;host=a.example;proto=http"
    assert seen.one("via") == "1.0 evil, 1.1 balancer"
    assert seen.one("x-request-id") == "mine" == answer.one("x-request-id")


async def test_an_id_that_the_backend_returns_is_not_doubled() -> None:
    async def echoing(origin: Origin, end: End) -> None:
        async for request in requests(origin, end):
            identity = request.one("x-request-id").encode()
            await end.send(b"HTTP/1.1 200 OK\r\nx-request-id: %s\r\nContent-Length: 0\r\n\r\n" % identity)

    origin = Origin(echoing)
    async with front(origin) as proxy:
        answer = await proxy.ask()
    assert answer.one("x-request-id") == origin.requests[0].one("x-request-id")


async def test_without_pass_host_the_backend_sees_its_own_name() -> None:
    origin = Origin()
    async with front(origin, pool={"pass_host": False}) as proxy:
        await proxy.ask()
    assert origin.requests[0].one("host") == f"127.0.0.1:{origin.port}"
    assert origin.requests[0].one("x-forwarded-host") == "a"


async def test_responses_say_which_backend_gave_them() -> None:
    lies = b"x-backend: web-9\r\nX-BACKEND: web-8;generation=1\r\nX-Backend-Time: 3\r\n"
    origins = [Origin(answer=b"HTTP/1.1 200 OK\r\n" + lies + b"Content-Length: 0\r\n\r\n") for _ in range(2)]
    async with front(*origins, pool={"backend_header": "X-Backend"}) as proxy:
        said = [(await proxy.ask()).all("x-backend") for _ in range(2)]
        assert sorted(said) == [["web-0;generation=1"], ["web-1;generation=1"]]
        assert (await proxy.ask()).one("x-backend-time") == "3"
        # What nobody but us has answered says nothing of a backend.
        await proxy.apply(backends=())
        assert (await proxy.ask()).all("x-backend") == []


async def test_without_that_wish_a_backends_own_word_stays() -> None:
    origin = Origin(answer=b"HTTP/1.1 200 OK\r\nX-Backend: its own\r\nContent-Length: 0\r\n\r\n")
    async with front(origin) as proxy:
        answer = await proxy.ask()
    assert answer.all("x-backend") == ["its own"]
    assert not answer.has("x-balancer-backend")


@pytest.mark.parametrize(("policy", "server"), [("pass", ["its"]), ("remove", []), ("mine", ["mine"])])
async def test_server_header(policy: str, server: list[str]) -> None:
    origin = Origin(answer=b"HTTP/1.1 200 OK\r\nServer: its\r\nContent-Length: 0\r\n\r\n")
    async with front(origin, proxy={"server_header": policy}) as proxy:
        assert (await proxy.ask()).all("server") == server
