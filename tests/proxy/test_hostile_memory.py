"""What is over is gone at once: collections are rare in a proxy, so nothing may wait for one."""

import gc
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress

import pytest
import trio
import trio.testing

from balancer.proxy.client import Client
from balancer.proxy.exchange import Exchange
from balancer.proxy.upstream import Upstream
from tests.proxy.ends import Origin, Torn, raw
from tests.proxy.harness import GET, Front, front

LARGE = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + bytes(3000000)
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" + bytes(100000) + b"\r\n"
POST = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
ENDS: dict[str, tuple[bytes, Origin]] = {
    "a client that does not read": (GET, Origin(answer=LARGE)),
    "a client that does not read chunks": (GET, Origin(raw(CHUNKED * 1, *[CHUNKED[47:]] * 30))),
    "a client that leaves its head": (GET[:20], Origin()),
    "a client that leaves its body": (POST, Origin()),
    "a bad chunk": (POST + b"zz\r\n", Origin()),
    "a bad request": (b"G@T / HTTP/1.1\r\n\r\n", Origin()),
    "a torn answer": (GET, Origin(raw(LARGE[:200000], close=True))),
    "a torn head": (GET, Origin(raw(LARGE[:20], close=True))),
    "an answer that is none": (GET, Origin(raw(b"hello\r\n\r\n", close=True))),
    "an answer that does not come": (GET, Origin(raw())),
}


@pytest.fixture(autouse=True)
def _no_collections() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def left() -> Counter[str]:
    return Counter(type(o).__name__ for o in gc.get_objects() if isinstance(o, Exchange | Client | Upstream))


@pytest.mark.parametrize("name", ENDS)
async def test_nothing_waits_for_a_collection(name: str) -> None:
    request, origin = ENDS[name]
    async with front(origin, proxy={"body_timeout": 0.5}, pool={"response_timeout": 0.2}) as proxy:
        for _ in range(3):
            await _leave(proxy, request, reads="client" not in name)
        await proxy.idle()
        await origin.until(lambda origin: origin.open == 0)
        await trio.testing.wait_all_tasks_blocked()
        assert not left()


async def _leave(proxy: Front, request: bytes, *, reads: bool) -> None:
    async with proxy.client(receive_buffer=0 if reads else 4096) as client:
        await client.send(request)
        if reads:
            with suppress(Torn):
                await client.response()
        else:
            await proxy.quiet()
