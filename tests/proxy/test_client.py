"""One client connection: versions, keep-alive, pipelining, and what the backend sees of a request's head."""

import itertools
import json
import re
from typing import Any

import pytest
import trio

from balancer.pool.snapshot import RoutePicture
from tests.proxy.ends import End, Origin, Torn, answers, raw, requests
from tests.proxy.harness import GET, backend, front


async def test_keep_alive_on_both_sides() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        async with proxy.client() as client:
            for _ in range(5):
                await client.send(GET)
                answer = await client.response()
                assert (answer.status, answer.body, answer.has("connection")) == (200, b"ok", False)
        assert proxy.requests() == {("GET", "200"): 5}
    assert origin.opened == 1


@pytest.mark.parametrize(
    ("request_head", "connection", "stays"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n", ["close"], False),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", ["close"], False),
        (b"GET / HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\n\r\n", ["keep-alive"], True),
    ],
)
async def test_what_the_client_wants_of_its_connection(request_head: bytes, connection: list[str], stays: bool) -> None:
    origin = Origin()
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(request_head)
        answer = await client.response()
        assert answer.start == "HTTP/1.1 200 OK"
        assert answer.all("connection") == connection
        if stays:
            await client.send(request_head)
            assert (await client.response()).status == 200
        else:
            assert await client.closed()
    assert {request.start for request in origin.requests} == {"GET / HTTP/1.1"}
    assert not any(request.has("connection") for request in origin.requests)
    assert origin.opened == 1


async def test_http_1_0_without_a_host_reaches_the_backend_with_one() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        assert (await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 200
    assert origin.requests[0].one("host") == f"127.0.0.1:{origin.port}"


POST = b"POST /%d HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
CHUNKED = b"POST /%d HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order() -> None:
    async def script(origin: Origin, end: End) -> None:
        async for request in requests(origin, end):
            path = request.target.encode()
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(path), path))

    async with front(Origin(script)) as proxy, proxy.client() as client:
        kinds = (b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n", POST, CHUNKED)
        await client.send(b"".join(kinds[number % 3] % number for number in range(30)))
        for number in range(30):
            assert (await client.response()).body == b"/%d" % number


async def test_pipelined_requests_leave_time_for_others() -> None:
    async with front(Origin(), listener={"pool": ""}) as proxy, proxy.client() as client:
        await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" * 200)
        answered = [0]
        with trio.fail_after(2):
            while answered[-1] < 200:
                await trio.lowlevel.checkpoint()
                answered.append(proxy.codes().get("404", 0))
        assert max(after - before for before, after in itertools.pairwise(answered)) <= 2


@pytest.mark.parametrize("kind", [POST, CHUNKED])
async def test_a_request_cut_at_every_byte(kind: bytes) -> None:
    origin = Origin()
    text = kind % 7
    async with front(origin) as proxy, proxy.client() as client:
        for at in range(1, len(text)):
            await client.send(text[:at])
            # The proxy is in this process: once nothing can run, it has read the first piece.
            await proxy.quiet()
            await client.send(text[at:])
            assert (await client.response()).body == b"ok"
    assert {request.body for request in origin.requests} == {b"abc"}
    assert len(origin.requests) == len(text) - 1


async def test_the_rest_of_an_upload_and_the_next_request_in_one_segment() -> None:
    origin = Origin()
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na")
        await proxy.quiet()
        await client.send(b"bc\r\n0\r\n\r\n" + GET)
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
    assert [request.target for request in origin.requests] == ["/1", "/"]


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


async def test_routes_by_host_and_path() -> None:
    web, api = Origin(), Origin()
    routes = (
        RoutePicture("api.example", "/v1/", "api", strip_prefix=True),
        RoutePicture("*.static.example", "", "api", strip_prefix=False),
        RoutePicture("", "/web", "web", strip_prefix=False),
    )
    async with front(web, routes=routes, listener={"pool": ""}) as proxy:
        await proxy.add_pool("api", api)
        cases = {
            (b"api.example", b"/v1/users?q=1"): (api, "/users?q=1"),
            (b"API.example:80", b"/v1"): (api, "/"),
            (b"api.example", b"/v10"): None,
            (b"a.b.static.example", b"/x"): (api, "/x"),
            (b"static.example", b"/x"): None,
            (b"anything", b"/web/x"): (web, "/web/x"),
            (b"anything", b"/other"): None,
        }
        for (host, target), expected in cases.items():
            answer = await proxy.ask(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host))
            if expected is None:
                assert answer.status == 404
                assert 'details="no_route"' in answer.one("proxy-status")
                assert not answer.has("connection")
            else:
                assert answer.status == 200
                assert expected[0].requests.pop().target == expected[1]
        assert not web.requests
        assert not api.requests


@pytest.mark.parametrize(("policy", "server"), [("pass", ["its"]), ("remove", []), ("mine", ["mine"])])
async def test_server_header(policy: str, server: list[str]) -> None:
    origin = Origin(answer=b"HTTP/1.1 200 OK\r\nServer: its\r\nContent-Length: 0\r\n\r\n")
    async with front(origin, proxy={"server_header": policy}) as proxy:
        assert (await proxy.ask()).all("server") == server


async def test_our_own_answers() -> None:
    async with front(Origin()) as proxy:
        await proxy.apply(backends=())
        answer = await proxy.ask()
        assert answer.status == 503
        assert answer.one("content-type").startswith("text/plain")
        assert int(answer.one("retry-after")) >= 1
        assert answer.has("x-request-id")
        assert answer.has("date")
        assert 'details="no_backend"' in answer.one("proxy-status")
        answer = await proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")
        assert json.loads(answer.body)["reason"] == "no_backend"
        async with proxy.client() as client:
            await client.send(b"HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" + GET)
            assert (await client.response("HEAD")).status == 503
            assert (await client.response()).status == 503
        assert proxy.errors() == {"no_backend": 4}


REFUSED: dict[str, tuple[bytes, dict[str, Any], int]] = {
    "syntax": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", {}, 400),
    "chunk": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", {}, 400),
    "target": (b"GET /%s HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * 2000), {"max_header_size": 1000}, 414),
    "head": (b"GET / HTTP/1.1\r\nHost: a\r\nA: %s\r\n\r\n" % (b"a" * 2000), {"max_header_size": 1000}, 431),
    "fields": (b"GET / HTTP/1.1\r\nHost: a\r\nA: 1\r\nA: 1\r\n\r\n", {"max_headers": 2}, 431),
    "length": (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n", {"max_body_size": 10}, 413),
    "coding": (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", {}, 501),
    "connect": (b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", {}, 405),
    "version": (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", {}, 505),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_refused_requests(name: str) -> None:
    request, limits, status = REFUSED[name]
    origin = Origin()
    async with front(origin, proxy=limits) as proxy, proxy.client() as client:
        await client.send(request)
        answer = await client.response()
        assert answer.status == status
        assert answer.one("connection") == "close"
        assert await client.closed()
        assert proxy.codes() == {str(status): 1}
        assert sum(proxy.errors().values()) == 1
    assert not origin.requests


async def test_413_in_the_middle_of_a_chunked_body() -> None:
    origin = Origin()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with front(origin, proxy={"max_body_size": 10}) as proxy:
        for first in (b"5\r\nabcde\r\n", b"a\r\nabcdefghij\r\n"):
            async with proxy.client() as client:
                await client.send(head + first)
                await origin.until(lambda origin: origin.open == 1)
                await client.send(b"6\r\nfghijk\r\n0\r\n\r\n")
                assert (await client.response()).status == 413
            await origin.until(lambda origin: origin.open == 0)
    assert not origin.requests


async def test_a_head_that_does_not_come() -> None:
    async with front(Origin(), proxy={"header_timeout": 0.1, "idle_timeout": 0.3}) as proxy:
        async with proxy.client() as client:
            assert await client.closed(1)
        async with proxy.client() as client:
            await client.send(b"GET / HT")
            assert (await client.response()).status == 408
            assert await client.closed(1)
        async with proxy.client() as client:
            await client.send(GET)
            await client.response()
            assert await client.closed(1)
        assert proxy.codes() == {"200": 1, "408": 1}
        assert proxy.errors() == {"head_timeout": 1}


async def test_an_answer_is_not_lost_to_what_the_client_still_sends() -> None:
    async with front(Origin(), proxy={"max_body_size": 10}) as proxy, proxy.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 300000\r\n\r\n")
        await proxy.quiet()
        await client.send(bytes(300000))
        assert (await client.response()).status == 413
        assert await client.closed()


async def test_pipelining_behind_a_last_request_does_not_cost_the_answer() -> None:
    last = b"GET /%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    # So long that the pipelined bytes are left in the kernel: closing on them would be a reset.
    text = last % (b"a" * 20000) + GET * 2000
    origin = Origin(answer=b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + bytes(100000))
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(text)
        assert len((await client.response()).body) == 100000
        assert await client.closed()


async def test_interim_responses() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nConnection: X-Its\r\nX-Its: 1\r\n\r\n"
    final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    origin = Origin(answer=hints + hints + final)
    async with front(origin) as proxy:
        async with proxy.client() as client:
            await client.send(GET)
            for _ in range(2):
                interim = await client.head()
                assert (interim.status, interim.fields) == (103, [("Link", "</a>")])
            assert (await client.response()).body == b"ok"
        async with proxy.client() as client:
            await client.send(b"GET / HTTP/1.0\r\n\r\n")
            assert (await client.head()).status == 200
        origin.answer = b"HTTP/1.1 102 Processing\r\n\r\n" * 33 + final
        assert (await proxy.ask(POST % 1)).status == 502


EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_expect_continue_is_between_client_and_backend() -> None:
    async def willing(origin: Origin, end: End) -> None:
        head = await end.head()
        assert head.one("expect") == "100-continue"
        await end.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        head.body = await end.take(5)
        origin.got(head)
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def unwilling(origin: Origin, end: End) -> None:
        origin.got(await end.head())
        await end.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        await end.closed()

    async with front(Origin(willing)) as proxy, proxy.client() as client:
        await client.send(EXPECTING)
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.response()).status == 200
        assert proxy.origins[0].requests[0].body == b"hello"
    async with front(Origin(unwilling)) as proxy, proxy.client() as client:
        await client.send(EXPECTING)
        answer = await client.response()
        assert (answer.status, answer.one("connection")) == (401, "close")
    async with front(Origin(answers)) as proxy, proxy.client() as client:
        await client.send(EXPECTING)
        await proxy.quiet()
        await client.send(b"hello")
        assert (await client.response()).status == 200


@pytest.mark.parametrize("status", [200, 204, 304])
async def test_answers_without_a_body(status: int) -> None:
    method = b"HEAD" if status == 200 else b"GET"
    length = b"" if status == 204 else b"Content-Length: 12\r\n"
    origin = Origin(raw(b"HTTP/1.1 %d X\r\n%s\r\n" % (status, length)))
    async with front(origin) as proxy, proxy.client() as client:
        for _ in range(2):
            await client.send(b"%s / HTTP/1.1\r\nHost: a\r\n\r\n" % method)
            answer = await client.response(method.decode())
            assert answer.status == status
            assert answer.all("content-length") == ([] if status == 204 else ["12"])
            assert not answer.has("transfer-encoding")
    assert origin.opened == 1


async def test_a_backend_that_answers_before_the_body_is_through() -> None:
    async def early(origin: Origin, end: End) -> None:
        origin.got(await end.head())
        await end.send(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope")
        # It neither reads on nor closes.
        await end.closed()

    async with front(Origin(early)) as proxy, proxy.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        await proxy.quiet()
        answer = await client.response()
        assert (answer.status, answer.body, answer.one("connection")) == (403, b"nope", "close")
        # A client that reads only after all is sent gets its answer too, and the backend is let go at once.
        await proxy.origins[0].until(lambda origin: origin.open == 0, 0.5)
        assert not proxy.gauges().get("in flight 0")
        await client.send(bytes(1000000))


@pytest.mark.parametrize("framing", [b"Content-Length: 3000000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_backend_that_answers_and_closes_on_an_upload(framing: bytes) -> None:
    async def curt(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope")

    piece = b"%x\r\n%s\r\n" % (100_000, bytes(100_000)) if b"chunked" in framing else bytes(100_000)
    async with front(Origin(curt)) as proxy:
        for _ in range(20):
            async with proxy.client() as client, trio.open_nursery() as nursery:

                async def upload(client: End = client) -> None:
                    try:
                        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")
                        for _ in range(30):
                            await client.send(piece)
                    except trio.BrokenResourceError:
                        pass

                nursery.start_soon(upload)
                # Closing with bytes unread is a reset; what the backend has said before counts.
                answer = await client.response()
                assert (answer.status, answer.body, answer.one("connection")) == (403, b"nope", "close")
        await proxy.idle()
        assert proxy.codes() == {"403": 20}


async def test_a_body_that_ends_early_or_does_not_come() -> None:
    origin = Origin()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
    async with front(origin, proxy={"body_timeout": 0.2}) as proxy:
        async with proxy.client() as client:
            await client.send(head)
            await origin.until(lambda origin: origin.open == 1)
            assert (await client.response()).status == 408
        async with proxy.client() as client:
            await client.send(head)
            await origin.until(lambda origin: origin.open == 1)
            await client.stream.send_eof()
            with pytest.raises(Torn):
                await client.response()
        await origin.until(lambda origin: origin.open == 0)
        await proxy.idle()
        assert proxy.codes() == {"408": 1, "499": 1}
        assert proxy.errors() == {"request_body_timeout": 1, "client_gone": 1}
    assert not origin.requests


async def test_a_stopping_backend_address_is_an_own_picture() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, weight=0),))
        assert (await proxy.ask()).status == 503
        await proxy.apply(backends=(backend(0, origin.port, weight=1),))
        assert (await proxy.ask()).status == 200
