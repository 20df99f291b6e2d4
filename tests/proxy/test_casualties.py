"""What an ended process took with it: requests are suspects, connections that had been upgraded long before are not."""

from time import monotonic

import pytest

from balancer.proxy import casualties
from tests.proxy.ends import End, Origin
from tests.proxy.harness import backend, front
from tests.proxy.test_tunnel import SWITCH, UPGRADE


async def opens(origin: Origin, end: End) -> None:
    """Accepts the upgrade, and breaks off when told to."""
    origin.got(await end.head())
    await end.send(SWITCH)
    await origin.until(lambda o: o.answer == b"")
    end.reset()


@pytest.mark.parametrize("is_fresh", [True, False])
@pytest.mark.parametrize("is_noticed", [True, False])
async def test_an_upgraded_connection_is_named_whether_or_not_it_has_ended_by_then(
    is_fresh: bool, is_noticed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(casualties, "FRESH", 60.0 if is_fresh else 0.0)
    origin = Origin(opens)
    async with front(origin) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, since=1.0, generation=2),))
        blame = proxy.proxy.view.pools["web"].blame
        blame.crash([(b"GET /chat", 1.0)])
        async with proxy.client() as client:
            await client.send(UPGRADE.replace(b"/chat", b"/chat?token=secret"))
            await client.head()
            if is_noticed:
                origin.answer = b""
                origin._tell()
                await proxy.idle()
            proxy.say("exited", backend="web-0", generation=2, at=monotonic(), own_doing=True, in_flight=1)
            await proxy.until(lambda f: bool(f.heard("casualties")))
            origin.answer = b""
            origin._tell()
        (told,) = proxy.heard("casualties")
        named, empty = ("requests", "upgraded") if is_fresh else ("upgraded", "requests")
        assert [(r["method"], r["path"], r["upgraded"]) for r in told[named]] == [("GET", "/chat", True)]
        assert told[empty] == []
        assert (told["count"], told["upgraded_count"]) == ((1, 0) if is_fresh else (0, 1))
        # One that lives on long after it was opened has not killed at earlier crashes either.
        assert blame.present == ({b"GET /chat": 2} if is_fresh else {})
        assert [m["crashes"] for m in proxy.heard("acquitted")] == ([] if is_fresh else [1])


async def test_beside_a_websocket_one_is_alone_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(casualties, "FRESH", 0.0)

    async def script(origin: Origin, end: End) -> None:
        head = await end.head()
        if head.target == "/chat":
            await end.send(SWITCH)
        origin.got(head)
        await origin.until(lambda o: o.answer == b"")

    first, second = Origin(script), Origin()
    async with front(first, second) as proxy:
        pictures = tuple(
            backend(n, o.port, since=1.0, generation=2, weight=1 - n) for n, o in enumerate((first, second))
        )
        await proxy.apply(backends=pictures)
        async with proxy.client() as socket, proxy.client() as client:
            await socket.send(UPGRADE)
            await socket.head()
            await client.send(b"GET /boom HTTP/1.1\r\nHost: a\r\n\r\n")
            await first.until(lambda o: len(o.requests) == 2)
            await proxy.apply(
                backends=tuple(backend(n, p.port, since=1.0, generation=2) for n, p in enumerate(pictures))
            )
            first.answer = b""
            first._tell()
            proxy.say("exited", backend="web-0", generation=2, at=monotonic(), own_doing=True, in_flight=2)
            assert (await client.response()).status == 502
        assert not second.requests


async def test_what_a_backend_broke_off_long_before_its_end_was_not_on_it() -> None:
    origin = Origin(opens)
    async with front(origin) as proxy:
        await proxy.apply(backends=(backend(0, origin.port, since=1.0, generation=2),))
        async with proxy.client() as client:
            await client.send(UPGRADE)
            await client.head()
            origin.answer = b""
            origin._tell()
            await proxy.idle()
        at = monotonic() + casualties.AT_ITS_END + 0.1
        proxy.say("exited", backend="web-0", generation=2, at=at, own_doing=True, in_flight=0)
        await proxy.until(lambda f: bool(f.heard("casualties")))
        (told,) = proxy.heard("casualties")
        assert (told["count"], told["upgraded_count"]) == (0, 0)
