"""Recycling: what is due and when, and that a pool that is not whole waits."""

from dataclasses import replace

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from balancer.settings.model_pool import Restart
from balancer.supervisor import recycle
from balancer.supervisor.recycle import Numbers, Recycler, due
from tests.supervisor.ground import QUICK, Ground, app, ground

FAR = 10**9


def limits(**changes: object) -> Restart:
    return Restart().model_copy(update=changes)


@given(st.floats(0, 1), st.integers(100, 10**6))
def test_a_limit_is_reached_within_a_tenth_of_it(dice: float, limit: int) -> None:
    for name in ("max_requests", "max_age"):
        wanted = limits(**{name: limit})
        early, late = limit * 0.9 - 1, limit * 1.1 + 1
        assert due(wanted, Numbers(0, int(early), early), dice) is None
        found = due(wanted, Numbers(0, int(late), late), dice)
        assert found is not None
        assert found.reason == name.removeprefix("max_")


def test_memory_has_no_jitter() -> None:
    wanted = limits(max_memory=200_000_000)
    assert due(wanted, Numbers(200_000_000, FAR, FAR), 0.0) is None
    found = due(wanted, Numbers(213_000_000, 0, 0.0), 1.0)
    assert found is not None
    assert (found.reason, found.text) == ("memory", "213 MB of memory, more than 200 MB")


@given(st.builds(Numbers, st.integers(0, FAR), st.integers(0, FAR), st.floats(0, FAR)), st.floats(0, 1))
def test_without_limits_nothing_is_due(numbers: Numbers, dice: float) -> None:
    assert due(limits(), numbers, dice) is None


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recycle, "TURN", 0.05)


def limit(g: Ground, **changes: object) -> None:
    """Give pool web these limits."""
    settings = g.truth.settings
    pool = settings.pool["web"].model_copy(update={"restart": limits(**changes)})
    g.truth.settings = settings.model_copy(update={"pool": {"web": pool}})


@pytest.mark.usefixtures("quick")
async def test_one_at_a_time_and_the_new_one_first() -> None:
    levels: list[int] = []
    async with ground() as g, trio.open_nursery() as nursery:
        for index in range(3):
            g.add(app(), index=index)
        await g.event("ready", 3)
        limit(g, max_age=0.2)
        recycler = Recycler(g.fleet, lambda: True)
        nursery.start_soon(recycler.run)

        async def watch() -> None:
            while True:
                await g.truth.changes.wait()
                levels.append(sum(backend.takes_requests for backend in g.truth.backends.values()))
                assert len(g.truth.backends) <= 4

        nursery.start_soon(watch)
        await g.event("recycling", 4)
        nursery.cancel_scope.cancel()
    assert min(levels) == 3
    assert {event.backend for event in g.kinds("recycling")[:4]} == {"web-0", "web-1", "web-2"}
    assert sum(slot.restarts.get("age", 0) for slot in g.truth.all_slots()) >= 3
    assert not g.kinds("crashed")


@pytest.mark.usefixtures("quick")
async def test_it_waits_for_jobs_and_for_a_whole_pool() -> None:
    async with ground() as g, trio.open_nursery() as nursery:
        g.add(app())
        broken = g.add(app("--exit-at-boot", "1"), replace(QUICK, restart=replace(QUICK.restart, delay=0.05)), index=1)
        await g.event("start failed", 2)
        limit(g, max_age=0.01)
        idle = [True]
        nursery.start_soon(Recycler(g.fleet, lambda: idle[0]).run)
        await g.event("start failed", 6)
        assert not g.kinds("recycling")  # one of the pool is in a crash loop
        idle[0] = False
        await g.fleet.remove(broken, "not wanted")
        with trio.move_on_after(0.3):
            await g.event("recycling")
        assert not g.kinds("recycling")  # somebody else is at work
        idle[0] = True
        await g.event("recycling")
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("quick")
async def test_a_job_stops_what_is_not_swapped_yet() -> None:
    async with ground() as g, trio.open_nursery() as nursery:
        slot = g.add(app())
        await g.event("ready")
        slot.launch = app("--boot-delay", "60")
        limit(g, max_age=0.01)
        recycler = Recycler(g.fleet, lambda: True)
        nursery.start_soon(recycler.run)
        await g.event("started", 2)
        limit(g)
        recycler.give_way()
        await g.event("exited")
        await g.until(lambda: len(g.truth.backends) == 1)
        assert slot.current is not None
        assert slot.current.backend.id.generation == 1
        assert slot.current.backend.takes_requests
        nursery.cancel_scope.cancel()


@pytest.mark.usefixtures("quick")
async def test_what_does_not_come_up_is_tried_again_later() -> None:
    async with ground() as g, trio.open_nursery() as nursery:
        slot = g.add(app())
        await g.event("ready")
        slot.launch = app("--exit-at-boot", "1")
        limit(g, max_age=0.01)
        nursery.start_soon(Recycler(g.fleet, lambda: True).run)
        failed = await g.event("recycle failed")
        assert failed.detail["next_try"] == "10 s"
        with trio.move_on_after(0.3):
            await g.event("recycling", 2)
        assert len(g.kinds("recycling")) == 1
        assert slot.current is not None
        assert slot.current.backend.takes_requests
        nursery.cancel_scope.cancel()
