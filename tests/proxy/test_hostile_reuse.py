"""The keep-alive race: a backend that closes idle connections when it likes, and requests that must not run twice."""

import random
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from balancer.pool.habits import Habits
from tests.proxy.ends import End, Message, Origin, requests
from tests.proxy.harness import GET, Front, backend, front

KEPT = 0.4  # seconds; a tenth of the default, as everything here
IMPATIENCE = (0.1, 0.6)  # seconds of idleness after which the backend closes: before, while and after we would


class Impatient(Origin):
    """Closes each connection after an idle time of its own. ran: how often each target has run."""

    def __init__(self, impatience: tuple[float, float], announces: bytes = b"") -> None:
        super().__init__(self._serve)
        self.ran: Counter[str] = Counter()
        self._chance = random.Random(7)
        self._impatience = impatience
        self._announces = announces

    async def _serve(self, _: Origin, end: End) -> None:
        while True:
            with trio.move_on_after(self._chance.uniform(*self._impatience)) as patience:
                if not end.buffer and not await end.more():
                    return
            if patience.cancelled_caught:
                # It has made up its mind, and is busy with something else first: what arrives meanwhile is not read any more.
                await trio.sleep(0.1)
                return
            request = await end.request()
            self.ran[f"{request.method} {request.target}"] += 1
            await end.send(b"HTTP/1.1 200 OK\r\n%sContent-Length: 2\r\n\r\nok" % self._announces)


class Users:
    """Clients that ask now and then. asked: how many requests; wrong: answers that were not 200."""

    def __init__(self, proxy: Front, pause: float) -> None:
        self.asked = 0
        self.wrong: Counter[int] = Counter()
        self._proxy = proxy
        self._pause = pause

    async def run(self, clients: int, count: int) -> None:
        """So many clients, so many requests each."""
        async with trio.open_nursery() as nursery:
            for number in range(clients):
                nursery.start_soon(self._ask, number, count)

    async def _ask(self, number: int, count: int) -> None:
        chance = random.Random(number)
        async with self._proxy.client() as client:
            for index in range(count):
                method = chance.choice((b"GET", b"POST"))
                body = b"Content-Length: 2\r\n\r\nhi" if method == b"POST" else b"\r\n"
                await client.send(b"%s /%d/%d HTTP/1.1\r\nHost: a\r\n%s" % (method, number, index, body))
                answer = await client.response()
                self.asked += 1
                if answer.status != 200:
                    self.wrong[answer.status] += 1
                await trio.sleep(chance.expovariate(1 / self._pause))


@asynccontextmanager
async def punctual() -> AsyncIterator[list[float]]:
    """By how many seconds a task of this loop was late, again and again."""
    found = [0.0]

    async def watch() -> None:
        while True:
            due = trio.current_time() + 0.002
            await trio.sleep_until(due)
            found.append(trio.current_time() - due)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        yield found
        nursery.cancel_scope.cancel()


async def test_no_502_and_no_post_twice() -> None:
    origin = Impatient(IMPATIENCE)
    async with front(origin, pool={"keep_alive_timeout": KEPT}) as proxy:
        # One program under eight names, so that each name's connections are idle for a while between requests.
        await proxy.apply(backends=tuple(backend(number, origin.port) for number in range(8)))
        users = Users(proxy, pause=0.4)
        async with punctual() as lateness:
            await users.run(clients=100, count=12)
        posts = {target: count for target, count in origin.ran.items() if target.startswith("POST")}
        assert set(posts.values()) == {1}
        assert users.asked == 1200
        # The clocks of both ends are this loop's: where it stood still for longer than the proxy keeps away from a backend's
        # earliest end, nobody could have known better.
        if max(lateness) < Habits().safe_for(KEPT):
            assert not users.wrong
            assert len(origin.ran) == 1200
        # Connections were kept, and did close at times of their own: else this would show nothing.
        assert origin.opened < 960
        assert any(b.habits.shortest < KEPT for b in proxy.proxy.view.pools["web"].backends)


async def _ask_after(proxy: Front, pause: float, *methods: bytes) -> None:
    async with proxy.client() as client:
        await client.send(GET)
        await client.response()
        for method in methods:
            await trio.sleep(pause)
            await client.send(b"%s / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n" % method)
            assert (await client.response()).status == 200


async def test_what_must_not_run_twice_gets_fresh_connections_only() -> None:
    for methods, share, opened in (((b"GET",), 0.7, 1), ((b"POST",), 0.7, 2), ((b"POST", b"PUT"), 0.05, 1)):
        origin = Origin()
        async with front(origin, pool={"keep_alive_timeout": 1.5 * KEPT}) as proxy:
            await _ask_after(proxy, share * 1.5 * KEPT, *methods)
        assert origin.opened == opened, (methods, share)


async def test_a_backend_says_how_long_it_keeps_connections() -> None:
    """`Keep-Alive: timeout=1`: we let go after half a second, whatever keep_alive_timeout says."""
    origin = Impatient((5, 5), b"Connection: keep-alive\r\nKeep-Alive: timeout=1\r\n")
    async with front(origin, pool={"keep_alive_timeout": 30}) as proxy:
        await proxy.ask()
        with trio.fail_after(4):
            await origin.until(lambda origin: origin.open == 0)


async def test_an_end_that_was_seen_counts() -> None:
    async def brief(origin: Origin, end: End) -> None:
        request: Message = await end.request()
        origin.got(request)
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        await trio.sleep(0.05)

    origin = Origin(brief)
    async with front(origin, pool={"keep_alive_timeout": 4}) as proxy:
        await proxy.ask()
        await origin.until(lambda origin: origin.open == 0)
        await proxy.quiet()
        (found,) = proxy.proxy.view.pools["web"].backends
        assert found.habits.safe_for(4) < 0.05
        assert not found.idle


async def test_a_post_that_meets_an_end_all_the_same_is_told_and_not_repeated() -> None:
    async def treacherous(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            if len(origin.requests) == 2:
                return
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    origin = Origin(treacherous)
    async with front(origin) as proxy:
        await proxy.ask()
        answer = await proxy.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nhi")
        assert (answer.status, len(origin.requests), origin.opened) == (502, 2, 1)
