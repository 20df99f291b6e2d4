"""A fleet without proxies, and proxies that are doubles: for tests of the supervisor's parts in this process."""

import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import trio

from balancer.pool.backend import BackendId
from balancer.settings.load import read
from balancer.settings.model import Settings
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.messages import Post
from balancer.supervisor.ports import Ports
from balancer.supervisor.restart import RestartPolicy
from balancer.supervisor.slot import Slot
from balancer.supervisor.spec import Care, Launch, ProbeSpec
from balancer.supervisor.surroundings import Surroundings
from balancer.supervisor.truth import Truth
from balancer.supervisor.waiting import Changes
from balancer.telemetry.events import Event, Events
from balancer.telemetry.ledger import Ledger
from balancer.telemetry.table import Table

ROOT = Path(__file__).resolve().parents[2]
APP = str(ROOT / "tests" / "support" / "app.py")
TALKER = str(ROOT / "tests" / "supervisor" / "talker.py")
PATIENCE = 30.0

QUICK = Care(
    ready_timeout=20.0,
    probe=ProbeSpec(interval=0.05, timeout=1.0),
    restart=RestartPolicy(0.02, 0.1, 10.0),
    drain_timeout=2.0,
    stop_timeout=3.0,
)


def app(*options: str) -> Launch:
    """The scripted backend."""
    return Launch(group="", command=(sys.executable, APP, "--host", "{host}", "--port", "{port}", *options), cwd="/")


def talker(kind: str) -> Launch:
    """The backend that uses `balancer.backend`."""
    return Launch(group="", command=(sys.executable, TALKER, kind), env={"PYTHONPATH": str(ROOT)}, cwd="/")


@dataclass
class Line:
    """A captured line."""

    backend: str
    generation: int
    text: str


class Ground:
    """A fleet and what its parts said."""

    def __init__(self, settings: Settings, proxies: int = 1) -> None:
        self.changes = Changes()
        self.recorded: list[Event] = []
        self.lines: list[Line] = []
        self.exits: list[tuple[BackendId, bool]] = []  # as told to the proxies
        self.casualties: dict[BackendId, list[dict[str, Any]]] = {}  # what a double of the proxies answers
        self.undrained: set[BackendId] = set()  # what a double of the proxies holds on to
        self.truth = Truth(settings, Ledger(Table.create(proxies)))
        self.events = Events(on_record=self._record)
        self.around = Surroundings(
            truth=self.truth,
            events=self.events,
            sink=self,
            ports=Ports(),
            post=Post(),
            drained=self._drained,
            holders=self._holders,
            exited=self._exited,
            casualties=self._casualties,
            bug=self._bug,
        )
        self.fleet: Fleet

    def line(self, pool: str, backend: str, generation: int, stream: str, text: str) -> None:
        """LineSink."""
        self.lines.append(Line(backend, generation, text))
        self.changes.fire()

    async def room(self) -> None:
        """LineSink: always."""

    def add(self, launch: Launch, care: Care = QUICK, index: int = 0) -> Slot:
        """One slot of pool web."""
        return self.fleet.add("web", index, launch, care)

    async def event(self, kind: str, count: int = 1) -> Event:
        """The count-th event of this kind, waiting for it."""
        with trio.fail_after(PATIENCE):
            await self.changes.until(lambda: len(self.kinds(kind)) >= count)
        return self.kinds(kind)[count - 1]

    def kinds(self, kind: str) -> list[Event]:
        """All events of this kind so far."""
        return [event for event in self.recorded if event.kind == kind]

    async def said(self, count: int) -> list[str]:
        """The first so many lines, waiting for them."""
        with trio.fail_after(PATIENCE):
            await self.changes.until(lambda: len(self.lines) >= count)
        return [line.text for line in self.lines[:count]]

    async def until(self, holds: Callable[[], bool]) -> None:
        """Until it holds, looked at after each change of the truth."""
        with trio.fail_after(PATIENCE):
            await self.truth.changes.until(holds)

    async def heard(self, value: Any) -> None:
        """Until some backend printed this JSON value."""
        with trio.fail_after(PATIENCE):
            await self.changes.until(lambda: any(line.text == json.dumps(value) for line in self.lines))

    def release(self, id: BackendId) -> None:  # noqa: A002
        """The double lets go."""
        self.undrained.discard(id)
        self.changes.fire()

    async def _drained(self, id: BackendId) -> None:  # noqa: A002
        await self.changes.until(lambda: id not in self.undrained)

    async def _holders(self, id: BackendId) -> list[dict[str, Any]]:  # noqa: A002
        return [{"method": "GET", "path": "/slow", "seconds": 1.0}]

    def _exited(self, id: BackendId, at: float, own_doing: bool, in_flight: int) -> None:  # noqa: A002
        self.exits.append((id, own_doing))

    async def _casualties(self, id: BackendId) -> list[dict[str, Any]]:  # noqa: A002
        return self.casualties.pop(id, [])

    def _bug(self, where: str, error: Exception) -> None:
        raise AssertionError(where) from error

    def _record(self, event: Event) -> None:
        self.recorded.append(event)
        self.changes.fire()


@asynccontextmanager
async def ground(proxies: int = 1) -> AsyncIterator[Ground]:
    """Everything that it started is dead when the block is left."""
    text = '[listen.web]\naddress = "127.0.0.1:1"\n[pool.web]\ncommand = "true"\n'
    made = Ground(read(text, on_this_machine=False), proxies)
    async with trio.open_nursery() as nursery:
        made.fleet = Fleet(made.around, nursery)
        try:
            yield made
        finally:
            made.fleet.kill()
            nursery.cancel_scope.cancel()


__all__ = ["QUICK", "Ground", "app", "ground", "replace", "talker"]
