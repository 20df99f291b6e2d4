"""How far a request goes: loops, and Max-Forwards (RFC 9110 7.6.2, 7.6.3)."""

import pytest

from balancer.proxy.hops import MAX_HOPS
from tests.proxy.ends import Origin
from tests.proxy.harness import GET, backend, front


def get(*fields: str, method: str = "GET", target: str = "/", version: str = "1.1") -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return f"{method} {target} HTTP/{version}\r\nHost: a\r\n{lines}\r\n".encode()


BRIEF = {"keep_alive_timeout": 0.1}  # a proxy that is its own backend has clients as long as it keeps connections


async def test_a_loop_ends_at_once() -> None:
    async with front(Origin(), pool=BRIEF) as proxy:
        await proxy.apply(backends=(backend(0, proxy.address[1], generation=2),))  # it is its own backend
        answer = await proxy.ask()
        assert answer.status == 508
        assert answer.one("proxy-status") == 'balancer; error=proxy_loop_detected; details="loop"'
        assert proxy.errors() == {"loop": 1}
        # Round once for each hop that Via may name, and once more to be refused.
        assert proxy.codes() == {"508": MAX_HOPS + 1}


async def test_a_loop_of_a_trusted_proxy_ends_too() -> None:
    async with front(Origin(), pool=BRIEF, listener={"trusted_proxies": ("127.0.0.0/8",)}) as proxy:
        await proxy.apply(backends=(backend(0, proxy.address[1], generation=2),))
        assert (await proxy.ask(get("Via: 1.1 other, 1.0 fred (Apache)"))).status == 508
        assert proxy.codes() == {"508": MAX_HOPS + 1}


async def test_balancers_behind_balancers_work() -> None:
    origin = Origin()
    async with front(origin) as inner, front(Origin()) as middle, front(Origin()) as outer:
        await middle.apply(backends=(backend(0, inner.address[1], generation=2),))
        await outer.apply(backends=(backend(0, middle.address[1], generation=2),))
        assert (await outer.ask()).status == 200
    assert origin.requests[0].one("via") == "1.1 balancer, 1.1 balancer, 1.1 balancer"


@pytest.mark.parametrize(
    ("via", "hops"),
    [
        ("1.1 evil", 0),
        ("1.1 balancer", 1),
        ("1.0 balancer (comment, with a comma)", 1),
        ("HTTP/1.1 balancer, 2 balancer\t(x), 1.1 balancer2, 1.1 a.balancer, balancer", 2),
    ],
)
async def test_only_balancers_of_an_untrusted_client_stay_in_via(via: str, hops: int) -> None:
    origin = Origin()
    async with front(origin) as proxy:
        assert (await proxy.ask(get(f"Via: {via}"))).status == 200
    assert origin.requests[0].one("via") == ", ".join(["1.1 balancer"] * (hops + 1))


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE"])
async def test_max_forwards_is_counted_down(method: str) -> None:
    origin = Origin()
    async with front(origin) as proxy:
        assert (await proxy.ask(get("X-A: 1", "max-forwards: 2", "X-B: 2", method=method))).status == 200
        assert (await proxy.ask(get(method=method))).status == 200
        for wrong in (("Max-Forwards: -1",), ("Max-Forwards: x",), ("Max-Forwards: 1", "Max-Forwards: 1")):
            assert (await proxy.ask(get(*wrong, method=method))).status == 400
    assert origin.requests[0].one("max-forwards") == "1"
    assert [(name, value) for name, value in origin.requests[0].fields if name.startswith("X-") and len(name) == 3] == [
        ("X-A", "1"),
        ("X-B", "2"),
    ]
    assert not origin.requests[1].has("max-forwards")
    assert len(origin.requests) == 2


async def test_other_methods_do_not_count() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        assert (await proxy.ask(get("Max-Forwards: 0"))).status == 200
    assert origin.requests[0].one("max-forwards") == "0"


async def test_the_last_recipient_answers() -> None:
    origin = Origin()
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(get("Max-Forwards: 0", method="OPTIONS", target="*"))
        answer = await client.response()
        assert (answer.status, answer.body) == (200, b"")
        assert "TRACE" in answer.one("allow")
        assert answer.has("x-request-id")
        secret = ("Cookie: a=b", "authorization: Basic x", "X-A: 1")
        await client.send(get("Max-Forwards: 0", *secret, method="TRACE", target="/x?y"))
        answer = await client.response()
        assert answer.one("content-type") == "message/http"
        assert answer.body == b"TRACE /x?y HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\nX-A: 1\r\n\r\n"
        old = get("Max-Forwards: 0", "Connection: keep-alive", method="OPTIONS", version="1.0")
        await client.send(old)
        assert (await client.response()).one("connection") == "keep-alive"
        await client.send(get("Max-Forwards: 0", "Content-Length: 3", method="OPTIONS"))
        assert (await client.response()).one("connection") == "close"
        assert await client.closed()
        assert proxy.requests() == {("OPTIONS", "200"): 3, ("TRACE", "200"): 1}
    assert not origin.opened


async def test_a_loop_of_two_is_found_too() -> None:
    async with front(Origin(), pool=BRIEF) as one, front(Origin(), pool=BRIEF) as other:
        await one.apply(backends=(backend(0, other.address[1], generation=2),))
        await other.apply(backends=(backend(0, one.address[1], generation=2),))
        assert (await one.ask(GET)).status == 508
        assert one.codes()["508"] + other.codes()["508"] == MAX_HOPS + 1
