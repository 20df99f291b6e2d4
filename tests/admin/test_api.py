"""The admin API over real sockets, and the clients that mean it ill."""

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import trio

from balancer.admin.api import Limits
from balancer.admin.operations import OperationFailed
from tests.admin.fake import STATUS, FakeOperations, answering

SECRET = "s3cret"
BEARER = {"Authorization": f"Bearer {SECRET}"}


@pytest.fixture
def operations() -> FakeOperations:
    return FakeOperations()


async def ask(port: int, method: str, path: str, **options: Any) -> httpx.Response:
    async with httpx.AsyncClient(trust_env=False, timeout=5) as client:
        return await client.request(method, f"http://127.0.0.1:{port}{path}", **options)


async def raw(port: int, data: bytes, seconds: float = 5.0) -> bytes:
    """What comes back until the end of the connection."""
    answer = b""
    with trio.fail_after(seconds):
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(data)
            try:
                async for piece in stream:
                    answer += piece
            except trio.BrokenResourceError:
                pass
    return answer


async def test_what_can_be_read(operations: FakeOperations) -> None:
    async with answering(operations) as port:
        assert (await ask(port, "GET", "/healthz")).text == "ok\n"
        assert (await ask(port, "GET", "/api/v1/status")).json() == STATUS
        plain = await ask(port, "GET", "/metrics")
        assert plain.headers["content-type"] == "text/plain"
        openmetrics = await ask(
            port, "GET", "/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"}
        )
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        head = await ask(port, "HEAD", "/api/v1/status")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 100


async def test_readiness_says_why_not(operations: FakeOperations) -> None:
    operations.reasons = ["pool web: no backend takes requests"]
    async with answering(operations) as port:
        answer = await ask(port, "GET", "/readyz")
        assert (answer.status_code, answer.text) == (503, "pool web: no backend takes requests\n")
        operations.reasons = []
        assert (await ask(port, "GET", "/readyz")).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "part"),
    [
        ("GET", "/api/v1/nothing", 404, "nothing"),
        ("DELETE", "/api/v1/status", 405, "takes GET"),
        ("GET", "/api/v1/reload", 405, "takes POST"),
        ("GET", "/api/v1/logs?last=-1", 400, "expected a number"),
        ("GET", "/api/v1/logs?follow=maybe", 400, "expected 1 or 0"),
        ("GET", "/api/v1/logs?pool=gone", 404, "there is no pool"),
    ],
)
async def test_mistakes_are_answered_in_a_sentence(
    operations: FakeOperations, method: str, path: str, status: int, part: str
) -> None:
    async with answering(operations, token=SECRET) as port:
        answer = await ask(port, method, path, headers=BEARER)
        assert answer.status_code == status
        assert part in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "body", "status", "part"),
    [
        ("/api/v1/pools/web/scale", b"", 400, "needs 'backends'"),
        ("/api/v1/pools/web/scale", b'{"backends": [3]}', 400, "expected a number or a string"),
        ("/api/v1/pools/web/scale", b'{"backends": true}', 400, "expected a number"),
        ("/api/v1/pools/web/scale", b"[3]", 400, "not a JSON object"),
        ("/api/v1/pools/web/scale", b"{3", 400, "not JSON"),
        ("/api/v1/pools/web/scale", b"[" * 5000, 400, "not JSON"),
        ("/api/v1/pools/web/restart", b'{"backend": 3}', 400, "expected a string"),
        ("/api/v1/pools/web/send", b"{}", 400, "needs 'message'"),
        ("/api/v1/pools/web/send", b'{"message": 1, "wait": 1}', 400, "wait: expected true or false"),
        ("/api/v1/pools/web/send", b'{"message": 1, "wait": true, "timeout": "5s"}', 400, "timeout: expected a number"),
        ("/api/v1/backends/gone/drain", b"", 404, "there is no 'gone'"),
        ("/api/v1/backends/web-0/", b"", 404, "there is no"),
    ],
)
async def test_bodies_that_make_no_sense(
    operations: FakeOperations, path: str, body: bytes, status: int, part: str
) -> None:
    async with answering(operations, token=SECRET) as port:
        answer = await ask(port, "POST", path, headers=BEARER, content=body)
        assert (answer.status_code, operations.did) == (status, [])
        assert part in answer.json()["error"]


async def test_what_can_be_changed(operations: FakeOperations) -> None:
    async with answering(operations, token=SECRET) as port:
        for path, body in [
            ("pools/web/restart", {}),
            ("pools/web/restart", {"backend": "web-1"}),
            ("backends/web-1/restart", {}),
            ("pools/web/scale", {"backends": 4}),
            ("backends/web-1/drain", {}),
            ("backends/web-1/undrain", {}),
            ("backends/web-1/weight", {"weight": 7}),
        ]:
            answer = await ask(port, "POST", f"/api/v1/{path}", headers=BEARER, json=body)
            assert json.loads(answer.text.splitlines()[-1])["ok"] is True
        answer = await ask(port, "POST", "/api/v1/pools/web/send", headers=BEARER, json={"message": [1]})
        assert answer.json() == {"ok": True, "sent": 3}
        for more in ({"wait": True}, {"wait": True, "timeout": 2}):
            asking = {"message": [1], **more}
            answer = await ask(port, "POST", "/api/v1/backends/web-1/send", headers=BEARER, json=asking)
            assert json.loads(answer.text.splitlines()[-1])["ok"] is True
        assert (await ask(port, "POST", "/api/v1/backends/web-1/drain")).status_code == 401
        assert operations.did == [
            ("restart", "web", ""),
            ("restart", "web", "web-1"),
            ("restart", "", "web-1"),
            ("scale", "web", 4),
            ("drain", "web-1"),
            ("undrain", "web-1"),
            ("weigh", "web-1", 7),
            ("send", "web", "", [1]),
            ("ask", "", "web-1", [1], 10.0),
            ("ask", "", "web-1", [1], 2),
        ]


async def test_nothing_is_changed_without_the_token(operations: FakeOperations) -> None:
    async with answering(operations, token=SECRET) as port:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {SECRET}"}):
            answer = await ask(port, "POST", "/api/v1/stop", headers=headers)
            assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
        assert not operations.stopped.is_set()
        assert (await ask(port, "POST", "/api/v1/stop", headers=BEARER)).status_code == 202
        assert operations.stopped.is_set()
        assert (await ask(port, "POST", "/api/v1/stop", headers=BEARER)).status_code == 409
    async with answering(operations) as port:
        answer = await ask(port, "POST", "/api/v1/stop", headers={"Authorization": "Bearer"})
        assert answer.status_code == 403
        assert "control socket" in answer.json()["error"]


async def test_a_browser_is_no_tool_against_it(operations: FakeOperations) -> None:
    async with answering(operations, token=SECRET) as port:
        rebound = await ask(port, "GET", "/api/v1/status", headers={"Host": "evil.example"})
        assert rebound.status_code == 403
        elsewhere = {"Origin": "http://evil.example", **BEARER}
        assert (await ask(port, "POST", "/api/v1/stop", headers=elsewhere)).status_code == 403
        assert (await ask(port, "GET", "/api/v1/events", headers={"Origin": "null"})).status_code == 403
        own = {"Host": f"localhost:{port}", "Origin": f"http://localhost:{port}"}
        assert (await ask(port, "GET", "/api/v1/status", headers=own)).status_code == 200
        assert not operations.stopped.is_set()


async def lines(stream: trio.SocketStream) -> AsyncIterator[bytes]:
    rest = b""
    async for piece in stream:
        rest += piece
        while b"\n" in rest:
            line, _, rest = rest.partition(b"\n")
            yield line


async def test_events_are_followed_with_their_past(operations: FakeOperations) -> None:
    operations.ring.record("started", backend="web-0")
    operations.ring.record("ready", backend="web-0", generation=1)
    async with answering(operations) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /api/v1/events?last=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        found: list[dict[str, Any]] = []
        with trio.fail_after(5):
            async for line in lines(stream):
                if line.startswith(b"data: "):
                    found.append(json.loads(line[6:]))
                    if len(found) == 1:
                        operations.ring.record("crashed", backend="web-0", generation=1, signal="SIGSEGV")
                    else:
                        break
    assert [event["text"] for event in found] == [
        "web-0 (generation 1) ready",
        "web-0 (generation 1) crashed: signal=SIGSEGV",
    ]


async def test_a_reload_streams_its_steps_and_its_failure(operations: FakeOperations) -> None:
    async with answering(operations, token=SECRET) as port:
        answer = await ask(port, "POST", "/api/v1/reload", headers=BEARER)
        assert [json.loads(line) for line in answer.text.splitlines()] == operations.steps
        operations.steps = [{"event": "ready", "text": "web-0 is ready"}, OperationFailed("a newer reload took over")]
        answer = await ask(port, "POST", "/api/v1/reload", headers=BEARER)
        assert json.loads(answer.text.splitlines()[-1]) == {"error": "a newer reload took over"}


async def test_a_stream_shows_signs_of_life_and_ends_with_its_client(operations: FakeOperations) -> None:
    async with answering(operations, limits=Limits(heartbeat=0.05)) as port:
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(b"GET /api/v1/events HTTP/1.0\r\nHost: localhost\r\n\r\n")
            with trio.fail_after(5):
                answer = b""
                async for piece in stream:
                    answer += piece
                    if b": alive\n\n" in answer:
                        break
        assert b": alive\n\n" in answer
        # HTTP/1.0 has no chunks: the answer ends with its connection.
        assert b"chunked" not in answer


async def test_a_follower_that_leaves_frees_its_place_at_once(operations: FakeOperations) -> None:
    async with answering(operations, limits=Limits(connections=1, heartbeat=1000)) as port:
        for _ in range(3):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await stream.send_all(b"GET /api/v1/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                with trio.fail_after(5):
                    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200 ")


async def test_kept_alive_with_a_body_that_nobody_asked_for(operations: FakeOperations) -> None:
    post = b"POST /api/v1/status HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    get = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    async with answering(operations) as port:
        answer = await raw(port, post + get)
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b"ok\n")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"400"),  # no Host
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 20_000, b"431"),
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n" + b"X: y\r\n" * 70 + b"\r\n", b"431"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 65537\r\n\r\n", b"413"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"400"),
        (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n20000\r\n" + b"a" * 0x20000, b"413"),
        (b"CONNECT localhost:22 HTTP/1.1\r\nHost: localhost:22\r\n\r\n", b"405"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"505"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"400"),  # a TLS hello
    ],
)
async def test_unreadable_requests_are_refused_at_once(operations: FakeOperations, data: bytes, status: bytes) -> None:
    async with answering(operations) as port:
        assert (await raw(port, data)).split(b" ")[1] == status


async def test_a_slow_request_is_given_up(operations: FakeOperations) -> None:
    async with answering(operations, limits=Limits(request_timeout=0.1)) as port:
        assert (await raw(port, b"GET /healthz HTTP/1.1\r\nHost:")).startswith(b"HTTP/1.1 408 ")
        body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nab"
        assert (await raw(port, body)).startswith(b"HTTP/1.1 408 ")


async def test_idle_connections_make_room(operations: FakeOperations) -> None:
    async with answering(operations, limits=Limits(connections=4)) as port, trio.open_nursery() as nursery:
        idle = [await trio.open_tcp_stream("127.0.0.1", port) for _ in range(12)]
        await idle[-1].send_all(b"GET /slow")
        assert (await ask(port, "GET", "/healthz")).status_code == 200
        for stream in idle:
            nursery.start_soon(stream.aclose)


async def test_a_client_that_reads_nothing_is_cut(operations: FakeOperations) -> None:
    for number in range(1000):
        operations.output.line("web", "web-0", 1, "stdout", f"{number} {'x' * 200}")
    writes = Limits(write_timeout=0.1, connections=1)
    async with answering(operations, limits=writes) as port, await trio.open_tcp_stream("127.0.0.1", port) as stream:
        stream.socket.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_RCVBUF, 4096)
        await stream.send_all(b"GET /api/v1/logs?last=1000&follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with trio.fail_after(30):
            while True:
                for number in range(1000):
                    operations.output.line("web", "web-0", 1, "stdout", f"{number} {'x' * 2000}")
                with trio.move_on_after(1):
                    # Its one place is free again only when the stalled client is gone.
                    assert (await ask(port, "GET", "/healthz")).status_code == 200
                    break


async def test_a_mistake_of_ours_costs_one_answer(operations: FakeOperations) -> None:
    operations.status_value = RuntimeError("bug")
    crashes: list[Exception] = []
    async with answering(operations, on_crash=crashes.append) as port:
        assert (await ask(port, "GET", "/api/v1/status")).status_code == 500
        assert (await ask(port, "GET", "/healthz")).status_code == 200
    assert [str(crash) for crash in crashes] == ["bug"]


async def test_a_stream_may_end_while_a_sign_of_life_is_on_its_way(operations: FakeOperations) -> None:
    """Both write to one socket; the end waits for its turn."""
    for number in range(1000):
        operations.output.line("web", "web-0", 1, "stdout", f"{number} {'x' * 200}")
    async with answering(operations, limits=Limits(heartbeat=0.001)) as port:
        for _ in range(20):
            answer = await ask(port, "GET", "/api/v1/logs?last=1000")
            assert sum(1 for line in answer.text.splitlines() if line) == 1000
