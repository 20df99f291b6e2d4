"""The ring: order, numbers, and followers who see everything or are told what they missed."""

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from balancer.telemetry.ring import Ring


@given(st.integers(1, 20), st.integers(0, 60), st.integers(0, 70))
def test_the_last_ones(size: int, appended: int, asked: int) -> None:
    ring: Ring[int] = Ring(size)
    numbers = [ring.append(item) for item in range(appended)]
    assert numbers == list(range(appended))
    assert ring.last(asked) == list(range(appended))[-min(size, asked) :] if asked else ring.last(asked) == []


async def test_a_follower_sees_each_item_once_and_in_order() -> None:
    ring: Ring[int] = Ring(100)
    seen: list[int] = []

    async def follow(start: int) -> None:
        async for missed, items in ring.follow(start):
            assert missed == 0
            seen.extend(items)
            if seen[-1] == 49:
                return

    for item in range(10):
        ring.append(item)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, 5)
        for item in range(10, 50):
            ring.append(item)
            if item % 3 == 0:
                await trio.testing.wait_all_tasks_blocked()
    assert seen == list(range(5, 50))


async def test_a_slow_follower_is_told_how_many_it_missed() -> None:
    ring: Ring[int] = Ring(10)
    following = ring.follow(0)
    ring.append(0)
    assert await anext(following) == (0, [0])
    for item in range(1, 51):
        ring.append(item)
    assert await anext(following) == (40, list(range(41, 51)))
    await following.aclose()  # type: ignore[attr-defined]
