"""An open-loop load: requests come when the schedule says, however many are still under way.

What a request takes is counted from the moment it was due, so that one that is held up shows in those behind it (wrk, a closed
loop, would simply send fewer).
"""

import random
from collections.abc import Sequence
from typing import NamedTuple

import trio

PATIENCE = 60.0  # seconds for one answer
LATEST = 0.05  # seconds by which the load may be late


class Due(NamedTuple):
    """A request of the schedule: when, in seconds from the start, and what for."""

    at: float
    path: str


class Answered(NamedTuple):
    """What came of it: seconds from when it was due to its last byte."""

    path: str
    seconds: float


def schedule(rate: float, seconds: float, slow_share: float, fast: str, slow: str, seed: int) -> list[Due]:
    """Poisson arrivals; the same for the same seed. The slow ones are an exact share, at random places."""
    chance = random.Random(seed)
    due = []
    at = chance.expovariate(rate)
    while at < seconds:
        due.append(at)
        at += chance.expovariate(rate)
    paths = [slow] * round(len(due) * slow_share)
    paths += [fast] * (len(due) - len(paths))
    chance.shuffle(paths)
    return [Due(*one) for one in zip(due, paths, strict=True)]


class NotQuiet(Exception):
    """The load itself was late: something else kept the processor, and what was measured is that."""


async def run(port: int, due: Sequence[Due]) -> list[Answered]:
    """Send all of them to 127.0.0.1:port, each on a kept connection that is free or else on a new one.

    Raises RuntimeError for anything but 200, and NotQuiet.
    """
    free: list[trio.SocketStream] = []
    answered: list[Answered] = []

    async def ask(one: Due, due_at: float) -> None:
        stream = free.pop() if free else await trio.open_tcp_stream("127.0.0.1", port)
        request = f"GET {one.path} HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: openloop\r\nAccept: */*\r\n\r\n"
        with trio.move_on_after(PATIENCE) as patience:
            await stream.send_all(request.encode())
            buffer = b""
            while b"\r\n\r\n" not in buffer:
                data = await stream.receive_some()
                if not data:
                    raise RuntimeError(f"{one.path}: closed without an answer")
                buffer += bytes(data)
            head, _, body = buffer.partition(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise RuntimeError(f"{one.path}: {head[:40]!r}")
            length = int(head.lower().partition(b"\r\ncontent-length:")[2].split(b"\r\n")[0])
            while len(body) < length:
                body += bytes(await stream.receive_some())
        if patience.cancelled_caught:
            raise RuntimeError(f"{one.path}: no answer within {PATIENCE:g} s")
        answered.append(Answered(one.path, trio.current_time() - due_at))
        free.append(stream)

    latest = 0.0
    async with trio.open_nursery() as nursery:
        started = trio.current_time()
        for one in due:
            await trio.sleep_until(started + one.at)
            latest = max(latest, trio.current_time() - started - one.at)
            nursery.start_soon(ask, one, started + one.at)
    for stream in free:
        await stream.aclose()
    if latest > LATEST:
        raise NotQuiet(f"the load was late by {latest * 1000:.0f} ms")
    return answered
