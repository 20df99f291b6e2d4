"""Every request is counted once, where it belongs, and leaves nothing behind; each has its line in the access log."""

import gc
import json
import os
import re
from pathlib import Path

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balancer.telemetry.table import (
    DURATION,
    REQUEST_BYTES,
    RESPONSE,
    RESPONSE_BYTES,
    histogram_of,
    requests_of,
)
from tests.proxy.ends import End, Origin, Torn, requests
from tests.proxy.harness import Front, front

BODY = b"0123456789" * 20000


async def faulty(origin: Origin, end: End) -> None:
    """Do what the path says."""
    async for request in requests(origin, end):
        match request.target:
            case "/ok":
                await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")
            case "/missing":
                await end.send(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            case "/large":
                await end.stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY)
            case "/chunks":
                await end.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
            case "/close":
                await end.send(b"HTTP/1.1 200 OK\r\n\r\nhello")
                return
            case "/cut":
                await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhello")
                return
            case "/reset":
                end.reset()
                return
            case "/nonsense":
                await end.send(b"NONSENSE\r\n\r\n")
            case "/silent":
                await end.closed()
                return


# What a client does on a connection of its own: what it sends, and whether it stays for the answer.
DEEDS = {
    "get": (b"GET /ok HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "old": (b"GET /ok HTTP/1.0\r\n\r\n", True),
    "head": (b"HEAD /missing HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "post": (b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", True),
    "upload": (b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY, True),
    "chunked upload": (
        b"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        True,
    ),
    "large": (b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "large, not read": (b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n", False),
    "chunks": (b"GET /chunks HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "until close": (b"GET /close HTTP/1.0\r\nHost: a\r\n\r\n", True),
    "cut": (b"GET /cut HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "reset": (b"GET /reset HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "post, reset": (b"POST /reset HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", True),
    "nonsense": (b"GET /nonsense HTTP/1.1\r\nHost: a\r\n\r\n", True),
    "left": (b"GET /silent HTTP/1.1\r\nHost: a\r\n\r\n", False),
    "bad": (b"GET /ok HTTP/1.1\r\n\r\n", True),
    "half a head": (b"GET /ok HT", False),
    "half a body": (b"POST /ok HTTP/1.1\r\nHost: a\r\nContent-Length: 300\r\n\r\nabc", False),
    "half a chunk": (b"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n30\r\nabc", False),
    "bad chunk": (b"POST /ok HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcde\r\n", True),
}


async def do(proxy: Front, deed: str) -> None:
    """One of DEEDS."""
    request, stays = DEEDS[deed]
    async with proxy.client() as client:
        try:
            await client.send(request)
            if stays:
                await client.response(request.partition(b" ")[0].decode())
            else:
                await proxy.quiet()
        except (Torn, trio.BrokenResourceError):
            pass


def descriptors() -> int:
    """Open in this process."""
    return len(os.listdir("/proc/self/fd"))


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(deeds=st.lists(st.sampled_from(sorted(DEEDS)), min_size=1, max_size=12), at_once=st.booleans())
async def test_nothing_is_left_of_any_sequence_of_requests(deeds: list[str], at_once: bool) -> None:
    origins = [Origin(faulty), Origin(faulty)]
    async with front(*origins) as proxy:
        service = proxy.proxy.service
        # The proxy keeps some pipes: that is no leak, if they are there from the start.
        pipes = [service.pipes.take() for _ in range(16)]
        for pipe in pipes:
            assert pipe is not None
            service.pipes.give_back(pipe, is_empty=True)
        gc.collect()  # sockets that earlier tests left to it
        before = descriptors()
        async with trio.open_nursery() as nursery:
            for deed in deeds:
                if at_once:
                    nursery.start_soon(do, proxy, deed)
                else:
                    await do(proxy, deed)
        await proxy.idle()
        assert not proxy.gauges()
        for kept in proxy.proxy.view.pools["web"].backends:
            for upstream in kept.idle[:]:
                upstream.expire()
        for origin in origins:
            await origin.until(lambda origin: origin.open == 0)
        await proxy.quiet()
        assert not service.poller.wires
        assert descriptors() == before
        rows = [proxy.table.backend_sums(row) for row in range(2)] + [proxy.table.pool_sums(row) for row in range(2)]
        counted = sum(count for row in rows for _, _, count in requests_of(row))
        assert counted == sum(sum(histogram_of(row, DURATION)[0]) for row in rows)
        # A head that never came is no request; everything else is exactly one.
        assert counted == len(deeds) - deeds.count("half a head")


async def test_each_request_is_counted_where_it_belongs() -> None:
    async with front(Origin(faulty), pool={"retries": 0}) as proxy:
        for deed in ("get", "head", "post", "chunks", "cut", "reset", "bad", "left"):
            await do(proxy, deed)
        await proxy.idle()
        row, pool = proxy.table.backend_sums(0), proxy.table.pool_sums(1)
        nowhere = proxy.table.pool_sums(0)
        assert sorted(requests_of(row)) == [
            ("GET", "200", 3), ("GET", "499", 1), ("HEAD", "404", 1), ("POST", "200", 1),
        ]  # fmt: skip
        assert requests_of(pool) == [("GET", "502", 1)]
        assert requests_of(nowhere) == [("other", "400", 1)]
        assert sum(histogram_of(row, RESPONSE)[0]) == 5
        assert row[REQUEST_BYTES] == 3
        assert row[RESPONSE_BYTES] == 5 * 4
        assert proxy.errors() == {"truncated": 1, "reset": 1, "bad_request": 1, "client_gone": 1}


@pytest.mark.parametrize("form", ["combined", "json"])
async def test_access_log(form: str, tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with front(Origin(faulty), proxy={"access": str(path), "access_format": form}, pool={"retries": 0}) as proxy:
        answer = await proxy.ask(b"GET /ok HTTP/1.1\r\nHost: a\r\nUser-Agent: me\r\nReferer: there\r\n\r\n")
        identity = answer.one("x-request-id")
        refused = len((await proxy.ask(DEEDS["reset"][0])).body)
        await do(proxy, "bad")
        proxy.say("stop")
        await proxy.until(lambda front: not front.is_running)
    lines = path.read_text().splitlines()
    if form == "combined":
        when = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"
        assert re.fullmatch(rf'127\.0\.0\.1 - - {when} "GET /ok HTTP/1\.1" 200 5 "there" "me"', lines[0])
        assert re.fullmatch(rf'127\.0\.0\.1 - - {when} "GET /reset HTTP/1\.1" 502 {refused} "-" "-"', lines[1])
        assert re.search('"- - HTTP/1.1" 400', lines[2])
        return
    first, second, third = map(json.loads, lines)
    wanted = {"client": "127.0.0.1", "method": "GET", "target": "/ok", "status": 200, "bytes": 5, "pool": "web"}
    assert wanted.items() <= first.items()
    assert (first["backend"], first["request_id"], first.get("reason", "")) == ("web-0", identity, "")
    assert (first["referer"], first["user_agent"]) == ("there", "me")
    assert 0 < first["seconds"] < 5
    assert (second["status"], second["reason"], second["pool"]) == (502, "reset", "web")
    assert second["bytes"] == refused > 0
    assert (third["status"], third["reason"]) == (400, "bad_request")
