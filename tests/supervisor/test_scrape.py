"""Scrapes: the loop goes on while one is made into text, and those who ask meanwhile share the next."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
import trio
import trio.testing

from balancer.supervisor import scrape
from balancer.supervisor.scrape import Scrapes
from balancer.telemetry.exposition import render
from balancer.telemetry.ledger import Tally
from balancer.telemetry.readings import Reading
from tests.telemetry.scene import scene

PATIENCE = 5.0


@dataclass
class Pen:
    """Stands for what makes text: it stops until it may go on, and keeps what it was given."""

    go: threading.Event = field(default_factory=threading.Event)
    begun: list[tuple[Reading, bool]] = field(default_factory=list)
    taken: int = 0

    def take(self) -> tuple[Tally, Reading]:
        self.taken += 1
        tally, reading = scene()
        return tally, replace(reading, config_version=self.taken)

    def write(self, tally: Tally, reading: Reading, openmetrics: bool) -> tuple[str, bytes]:
        self.begun.append((reading, openmetrics))
        assert self.go.wait(PATIENCE), "the loop does not go on beside it"
        return ("openmetrics" if openmetrics else "plain"), b"%d" % reading.config_version


@pytest.fixture
def pen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Pen]:
    made = Pen()
    monkeypatch.setattr(scrape, "_render", made.write)
    yield made
    made.go.set()


async def test_it_is_what_the_exposition_says() -> None:
    assert await Scrapes(scene).text(False) == render(*scene())
    assert await Scrapes(scene).text(True) == render(*scene(), openmetrics_wanted=True)


async def test_the_loop_goes_on_meanwhile_and_those_who_ask_then_share_the_next_one(
    pen: Pen,
) -> None:
    scrapes = Scrapes(pen.take)
    said: list[tuple[str, bytes]] = []

    async def ask(openmetrics: bool) -> None:
        said.append(await scrapes.text(openmetrics))

    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            for openmetrics in (False, False, True, False, True, False):
                nursery.start_soon(ask, openmetrics)
                await trio.testing.wait_all_tasks_blocked()
            assert pen.taken == 1
            pen.go.set()
    assert sorted(said) == [("openmetrics", b"3")] * 2 + [("plain", b"1")] + [("plain", b"2")] * 3


async def test_one_who_leaves_takes_nothing_from_those_who_wait(pen: Pen) -> None:
    scrapes = Scrapes(pen.take)
    said: list[tuple[str, bytes]] = []
    leaving = [trio.CancelScope(), trio.CancelScope()]

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            said.append(await scrapes.text(False))

    with trio.fail_after(2 * PATIENCE):
        async with trio.open_nursery() as nursery:
            for scope in (leaving[0], leaving[1], trio.CancelScope(), trio.CancelScope()):
                nursery.start_soon(ask, scope)
                await trio.testing.wait_all_tasks_blocked()
            leaving[0].cancel()
            await trio.testing.wait_all_tasks_blocked()
            leaving[1].cancel()
            await trio.testing.wait_all_tasks_blocked()
            pen.go.set()
    # The text of the second and third was begun anew when the second left.
    assert said == [("plain", b"3")] * 2
