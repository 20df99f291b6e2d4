"""Rolling replacement: the plan is pure; the executor never has fewer in rotation than before, and a failure changes nothing."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from balancer.supervisor.rollout import Rollout, RolloutFailed, plan
from balancer.supervisor.spec import Launch
from balancer.supervisor.wanted import WantedSlot
from tests.supervisor.ground import PATIENCE, QUICK, Ground, app, ground

COUNTS = st.integers(0, 30)


@given(present=st.sets(COUNTS), wanted=COUNTS, surge=st.integers(1, 40), data=st.data())
def test_the_plan_ends_at_what_is_wanted_and_never_goes_below_what_both_have(
    present: set[int], wanted: int, surge: int, data: st.DataObject
) -> None:
    kept = sorted(present & set(range(wanted)))
    first = data.draw(st.sampled_from([None, *kept]))
    made = plan(present, wanted, surge, first)
    assert first is None or made.steps[0] == (first,)
    both = len(kept)
    old, new = set(present), set(made.added)
    assert all(0 < len(step) <= surge for step in made.steps)
    for step in made.steps:
        # All of a step are up beside the old ones before any old one goes.
        assert not set(step) & new
        assert set(step) <= old
        new |= set(step)
        old -= set(step)
        assert len(old | new) >= both
    assert old == set(made.removed)
    assert new == set(range(wanted))


async def three(g: Ground) -> None:
    """Slots web-0 to web-2, ready."""
    for index in range(3):
        g.add(app(), index=index)
    await g.event("ready", 3)


def to(launch: Callable[[int], Launch], count: int = 3) -> list[WantedSlot]:
    return [WantedSlot(index, launch(index), QUICK) for index in range(count)]


def quiet(*_: Any, **__: Any) -> None:
    """Progress that nobody watches."""


async def watch_level(g: Ground, levels: list[int]) -> None:
    """How many take requests, after each change."""
    while True:
        await g.truth.changes.wait()
        levels.append(sum(backend.takes_requests for backend in g.truth.backends.values()))


@pytest.mark.parametrize("surge", [1, 2, 3])
async def test_there_are_never_fewer_than_before(surge: int) -> None:
    levels: list[int] = []
    async with ground() as g:
        await three(g)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_level, g, levels)
            with trio.fail_after(PATIENCE):
                await Rollout(g.fleet, "web", quiet).run(to(lambda _: app()), surge)
            nursery.cancel_scope.cancel()
        assert min(levels) == 3
        assert max(levels) <= 3 + surge
        assert {known.generation for known in g.truth.backends} == {2}
        assert all(slot.restarts == {"reload": 1} for slot in g.truth.all_slots())
        assert not g.kinds("crashed")


async def test_a_failure_half_way_is_swapped_back() -> None:
    levels: list[int] = []
    async with ground() as g:
        await three(g)
        before = [slot.launch for slot in g.truth.all_slots()]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_level, g, levels)
            wanted = to(lambda index: app("--exit-at-boot", "4") if index == 2 else app("--boot-delay", "0.01"))
            with trio.fail_after(PATIENCE), pytest.raises(RolloutFailed, match="web-2 ended with exit code 4"):
                await Rollout(g.fleet, "web", quiet).run(wanted, 1)
            nursery.cancel_scope.cancel()
        assert min(levels) == 3
        assert [slot.launch for slot in g.truth.all_slots()] == before
        # web-2 never was replaced; the others went there and back.
        assert sorted(g.truth.backends) == [("web-0", 3), ("web-1", 3), ("web-2", 1)]
        # The way back is the reload's doing as well, and no operator's.
        assert [slot.restarts for slot in g.truth.all_slots()] == [{"reload": 2}, {"reload": 2}, {}]


async def test_growing_by_one_that_does_not_start_changes_nothing() -> None:
    async with ground() as g:
        await three(g)
        wanted = [*to(lambda _: app()), WantedSlot(3, app("--never-listen"), replace(QUICK, ready_timeout=0.2))]
        with trio.fail_after(PATIENCE), pytest.raises(RolloutFailed, match=r"web-3 was not ready within 0\.2 s"):
            await Rollout(g.fleet, "web", quiet).run(wanted, 1)
        assert [slot.name for slot in g.truth.all_slots()] == ["web-0", "web-1", "web-2"]
        assert {known.generation for known in g.truth.backends} == {1}


async def test_taken_over_in_the_middle_it_stops_what_it_started() -> None:
    async with ground() as g:
        await three(g)
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                slow = [WantedSlot(i, app("--boot-delay", "60"), replace(QUICK, ready_timeout=60.0)) for i in range(3)]
                nursery.start_soon(Rollout(g.fleet, "web", quiet).run, slow, 2)
                await g.event("started", 5)
                scope.cancel()
        await g.event("exited", 2)
        await g.until(lambda: len(g.truth.backends) == 3)
        assert all(backend.takes_requests for backend in g.truth.backends.values())


async def test_one_that_crashes_while_its_successor_starts_is_still_replaced_by_it() -> None:
    import os
    import signal

    async with ground() as g:
        slot = g.add(app())
        await g.event("ready")
        assert slot.current is not None
        assert slot.current.process is not None
        old = slot.current.process.pid
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Rollout(g.fleet, "web", quiet).run, to(lambda _: app("--boot-delay", "0.2"), 1), 1)
            await g.event("started", 2)
            os.kill(old, signal.SIGKILL)
        await g.until(lambda: len(g.truth.backends) == 1)
        assert "--boot-delay" in slot.launch.command
        assert slot.current is not None
        assert slot.current.backend.takes_requests
        assert slot.current.launch is slot.launch
