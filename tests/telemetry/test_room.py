"""Waiting for a thread that writes: as long as it writes, and never again for one that does not."""

import threading

import pytest
import trio
import trio.testing

from balancer.telemetry import room
from balancer.telemetry.room import Room


async def test_all_wait_until_there_is_room_and_each_looks_again() -> None:
    lock, waiting, through = threading.Condition(), [10], []
    made = Room(lock, lambda: waiting[0] > 5)

    async def produce(name: str) -> None:
        await made.wait()
        through.append(name)
        waiting[0] += 5

    def take(left: int) -> None:
        with lock:
            waiting[0] = left
            made.made()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce, "a")
        nursery.start_soon(produce, "b")
        for left, count in ((8, 0), (1, 1), (0, 2)):
            await trio.to_thread.run_sync(take, left)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert len(through) == count


async def test_what_stalls_is_waited_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    lock, crowded = threading.Condition(), [True]
    made = Room(lock, lambda: crowded[0])
    monkeypatch.setattr(room, "PATIENCE", 0.1)
    began = trio.current_time()
    for _ in range(20):
        await made.wait()
    assert 0.1 <= trio.current_time() - began < 1, "not twenty times"
    # It goes on: from then on it is waited for as before.
    with lock:
        made.made()
    began = trio.current_time()
    await made.wait()
    assert trio.current_time() - began >= 0.1
