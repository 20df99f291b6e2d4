"""The keep-alive race, which peers' users meet as sporadic 502s: backends that close idle connections whenever they like."""

import random
from collections import Counter

import trio

from tests.proxy.ends import End, Origin
from tests.support.running import running

CONFIG = """
[listen.web]
address = "127.0.0.1:0"

[proxy]
processes = 1

[[pool.web.group]]
address = "127.0.0.1:{}"

[[pool.web.group]]
address = "127.0.0.1:{}"
"""
CLIENTS = 8
REQUESTS = 250  # of each client


async def test_backends_that_close_idle_connections_at_random() -> None:
    chance = random.Random(7)
    executed: Counter[str] = Counter()

    async def impatient(origin: Origin, end: End) -> None:
        while True:
            with trio.move_on_after(chance.uniform(0.005, 0.03)):
                await end.more()
            if not end.buffer:
                return
            request = await end.request()
            executed[f"{request.method} {request.target}"] += 1
            await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")

    answers: Counter[tuple[str, int]] = Counter()

    async def visitor(number: int, port: int) -> None:
        client = End(await trio.open_tcp_stream("127.0.0.1", port))
        for turn in range(REQUESTS):
            method = chance.choice(("GET", "POST"))
            await client.send(f"{method} /{number}/{turn} HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc".encode())
            answers[method, (await client.response()).status] += 1
            await trio.sleep(chance.choice((0, 0, 0.001, 0.01)))  # so that connections have time to idle
        await client.close()

    origins = [Origin(impatient), Origin(impatient)]
    async with trio.open_nursery() as nursery:
        for origin in origins:
            await nursery.start(origin.run)
        async with (
            running(CONFIG.format(*(origin.port for origin in origins))) as balancer,
            trio.open_nursery() as visitors,
        ):
            for number in range(CLIENTS):
                visitors.start_soon(visitor, number, balancer.port)
        nursery.cancel_scope.cancel()
    assert sum(answers.values()) == CLIENTS * REQUESTS
    assert {status for _, status in answers} == {200}, answers
    assert all(count == 1 for what, count in executed.items() if what.startswith("POST"))
