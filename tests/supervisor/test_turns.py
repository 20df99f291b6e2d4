"""Jobs take turns, and a newer one takes over from what it makes pointless."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from balancer.admin.operations import OperationFailed
from balancer.supervisor.progress import Progress
from balancer.supervisor.rollout import RolloutFailed
from balancer.supervisor.turns import Job, Turns
from balancer.telemetry.events import Events


class Stage:
    """Turns, and jobs that go on until they are let go."""

    def __init__(self) -> None:
        self.events = Events()
        self.gave_way = 0
        self.bugs: list[str] = []
        self.turns = Turns(self.events, self._give_way, lambda where, _: self.bugs.append(where))
        self.running: list[str] = []
        self.go = trio.Event()

    def _give_way(self) -> None:
        self.gave_way += 1

    def begin(self, kind: str, pool: str = "", backend: str = "", *, error: Exception | None = None) -> Progress:
        """Ask for one."""

        async def work(progress: Progress) -> str:
            self.running.append(job.title)
            await self.go.wait()
            if error is not None:
                raise error
            return f"{job.title} done"

        job = Job(kind, work, pool, backend)
        return self.turns.begin(job)


@asynccontextmanager
async def staged() -> AsyncIterator[Stage]:
    stage = Stage()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(stage.turns.run)
        yield stage
        nursery.cancel_scope.cancel()


async def last(progress: Progress) -> tuple[bool, str]:
    """Its last word."""
    with trio.fail_after(10):
        said = [step async for step in progress.follow()]
    assert [step["event"] for step in said].count("done") == 1
    return said[-1]["ok"], said[-1]["text"]


async def test_one_after_another_in_their_order() -> None:
    async with staged() as stage:
        first = stage.begin("restart", "web")
        second = stage.begin("scale", "web")
        third = stage.begin("restart", "api")
        await trio.testing.wait_all_tasks_blocked()
        assert stage.running == ["restart of pool web"]
        assert second.said[0]["text"] == "waiting for the restart of pool web in progress"
        assert third.said[0]["text"] == "waiting for the scale of pool web in progress"
        stage.go.set()
        assert [await last(progress) for progress in (first, second, third)] == [
            (True, "restart of pool web done"),
            (True, "scale of pool web done"),
            (True, "restart of pool api done"),
        ]
        assert stage.turns.is_idle
        assert stage.gave_way == 3


@pytest.mark.parametrize(
    ("older", "newer", "takes_over"),
    [
        (("reload",), ("reload",), True),
        (("restart", "web"), ("reload",), True),
        (("scale", "web"), ("reload",), True),
        (("reload",), ("restart", "web"), False),
        (("reload",), ("scale", "web"), False),
        (("restart", "web"), ("restart", "web"), True),
        (("restart", "web", "web-1"), ("restart", "web"), True),
        (("restart", "web"), ("restart", "web", "web-1"), False),
        (("restart", "web"), ("restart", "api"), False),
        (("scale", "web"), ("restart", "web"), False),
        (("scale", "web"), ("scale", "web"), True),
    ],
)
@pytest.mark.parametrize("is_running", [True, False])
async def test_who_takes_over(
    older: tuple[str, ...], newer: tuple[str, ...], takes_over: bool, is_running: bool
) -> None:
    async with staged() as stage:
        if not is_running and newer[0] != "reload":
            stage.begin("restart", "other")
        one = stage.begin(*older)
        if is_running:
            await trio.testing.wait_all_tasks_blocked()
        other = stage.begin(*newer)
        await trio.testing.wait_all_tasks_blocked()
        assert one.is_done == takes_over
        stage.go.set()
        assert (await last(one))[0] is not takes_over
        if takes_over:
            assert (await last(one))[1] == f"a newer {newer[0]} took over"
        assert (await last(other))[0]


@pytest.mark.parametrize(
    ("error", "text", "event"),
    [
        (RolloutFailed("web-0 did not start"), "rolled back: web-0 did not start", "rolled back"),
        (OperationFailed("no"), "no", "restart failed"),
        (
            ValueError("oops"),
            "an error of the balancer itself ended the restart of pool web: ValueError('oops')",
            "restart failed",
        ),
    ],
)
async def test_failures_are_last_words_and_the_next_has_its_turn(error: Exception, text: str, event: str) -> None:
    async with staged() as stage:
        one = stage.begin("restart", "web", error=error)
        other = stage.begin("scale", "web")
        stage.go.set()
        assert await last(one) == (False, text)
        assert (await last(other))[0]
        assert [e.kind for e in stage.events.last(10)] == ["restart started", event, "scale started", "scale finished"]
        assert len(stage.bugs) == isinstance(error, ValueError)


async def test_the_end_of_the_balancer_is_the_end_of_every_job() -> None:
    async with staged() as stage:
        one, other = stage.begin("restart", "web"), stage.begin("scale", "web")
        await trio.testing.wait_all_tasks_blocked()
    assert await last(one) == (False, "the balancer stops")
    assert await last(other) == (False, "the balancer stops")
