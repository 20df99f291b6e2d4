"""One client connection: versions, keep-alive, pipelining, our own answers, and what is refused."""

import itertools
import json
from typing import Any

import pytest
import trio

from tests.proxy.ends import PATIENCE, End, Origin, raw, requests
from tests.proxy.harness import GET, front


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
        with trio.fail_after(PATIENCE):
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
