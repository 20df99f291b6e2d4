"""Requests that belong together: by hash, by cookie."""

from collections import Counter

import pytest

from balancer.http1.heads import RequestHead, parse_request
from balancer.proxy.affinity import cookie, key_finder
from tests.proxy.ends import OK, Origin
from tests.proxy.harness import backend, front

KEY = "ab" * 32


def head(*lines: bytes, target: bytes = b"/") -> RequestHead:
    data = b"GET %s HTTP/1.1\r\nHost: a\r\n%s\r\n" % (target, b"".join(line + b"\r\n" for line in lines))
    found = parse_request(data, 65536, 100)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("lines", "value"),
    [
        ((b"Cookie: a=1; s=two; b=3",), b"two"),
        ((b"Cookie: a=1", b"Cookie: s=three"), b"three"),
        ((b'Cookie: s="four"',), b"four"),
        ((b"Cookie: xs=1; s2=2",), b""),
        ((b"Cookie: s=",), b""),
        ((), b""),
    ],
)
def test_a_cookie_is_found_by_its_whole_name(lines: tuple[bytes, ...], value: bytes) -> None:
    assert cookie(head(*lines), b"s") == value


def test_keys() -> None:
    request = head(b"X-User: 7", b"Cookie: u=9", target=b"/a?b")
    assert key_finder("client-ip")(request, "10.0.0.1") == b"10.0.0.1"
    assert key_finder("uri")(request, "") == b"/a?b"
    assert key_finder("header:x-user")(request, "") == b"7"
    assert key_finder("cookie:u")(request, "") == b"9"


async def test_hash_on_the_target_sends_each_to_one_backend() -> None:
    origins = tuple(Origin() for _ in range(3))
    async with front(*origins, pool={"policy": "hash", "hash_on": "uri"}) as proxy:
        for _ in range(3):
            for number in range(20):
                await proxy.ask(b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    seen = [Counter(request.target for request in origin.requests) for origin in origins]
    for number in range(20):
        assert sorted(found[f"/{number}"] for found in seen) == [0, 0, 3]
    assert all(seen)


async def test_a_client_stays_with_its_slot_over_a_restart_and_leaves_it_for_a_drain() -> None:
    origins = tuple(Origin() for _ in range(3))
    async with front(*origins, pool={"sticky_cookie": "b", "sticky_key": KEY, "sticky_attributes": "Path=/"}) as proxy:
        first = await proxy.ask()
        value, _, attributes = first.one("set-cookie").partition(";")
        assert attributes == " Path=/"
        name = value.removeprefix("b=").partition(".")[0]
        number = int(name.removeprefix("web-"))
        ask = b"GET / HTTP/1.1\r\nHost: a\r\nCookie: %s\r\n\r\n" % value.encode()
        for _ in range(5):
            again = await proxy.ask(ask)
            assert not again.has("set-cookie")
        assert len(origins[number].requests) == 6
        # A new generation of the same slot: the same client comes back to it.
        successor = Origin()
        await proxy.add_origin(successor)
        pictures = list(proxy.snapshot.pools[0].backends)
        pictures[number] = backend(5, successor.port, name=name, generation=2)
        await proxy.apply(backends=tuple(pictures))
        assert not (await proxy.ask(ask)).has("set-cookie")
        assert len(successor.requests) == 1
        # While it drains, its clients go elsewhere, and are told so.
        pictures[number] = backend(5, successor.port, name=name, generation=2, draining=True, takes_requests=False)
        await proxy.apply(backends=tuple(pictures))
        moved = await proxy.ask(ask)
        assert f"b={name}." not in moved.one("set-cookie")


async def test_a_cookie_that_we_did_not_sign_means_nothing() -> None:
    origins = tuple(Origin(answer=OK) for _ in range(2))
    async with front(*origins, pool={"sticky_cookie": "b", "sticky_key": KEY}) as proxy:
        for _ in range(4):
            answer = await proxy.ask(b"GET / HTTP/1.1\r\nHost: a\r\nCookie: b=web-1.00000000000000000000\r\n\r\n")
            assert answer.has("set-cookie")
    assert [len(origin.requests) for origin in origins] == [2, 2]
