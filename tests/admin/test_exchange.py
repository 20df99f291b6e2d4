"""Whatever a client sends, cut as it likes: answers or silence, never a crash."""

import trio
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.admin.crowd import Crowd
from balancer.admin.exchange import DEFAULT_LIMITS, Exchange
from balancer.admin.guard import Guard
from tests.admin.fake import FakeOperations

PIECES = [
    b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /api/v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer s\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n",
    b"GET /api/v1/events?last=5&follow=0 HTTP/1.0\r\nHost: localhost\r\n\r\n",
    b"GET /api/v1/logs?last=%00&pool=\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"Expect: 100-continue\r\n",
    b"\r\n",
    b"\0",
]


@settings(deadline=None)
@given(st.lists(st.sampled_from(PIECES) | st.binary(max_size=30), max_size=6), st.integers(1, 200))
async def test_any_bytes(pieces: list[bytes], cut: int) -> None:
    crashes: list[Exception] = []
    exchange = Exchange(FakeOperations(), Guard("127.0.0.1", "s"), DEFAULT_LIMITS, crashes.append)
    near, far = trio.socket.socketpair()
    client, server = trio.SocketStream(near), trio.SocketStream(far)
    answer = b""

    async def talk() -> None:
        data = b"".join(pieces)
        try:
            for start in range(0, len(data), cut):
                await client.send_all(data[start : start + cut])
            await client.send_eof()
        except trio.BrokenResourceError:
            pass  # it has heard enough

    async def listen() -> None:
        nonlocal answer
        try:
            async for piece in client:
                answer += piece
        except trio.BrokenResourceError:
            pass

    with trio.fail_after(5):
        async with client, trio.open_nursery() as nursery:
            nursery.start_soon(talk)
            nursery.start_soon(listen)
            async with server:
                await exchange.converse(server, Crowd(1))
    assert crashes == []
    assert answer == b"" or answer.startswith(b"HTTP/1.1 ")
