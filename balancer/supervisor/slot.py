"""A place in a pool that wants one backend: `web-3`, over all the processes that fill it one after another."""

from typing import TYPE_CHECKING, Protocol

import trio

from balancer.pool.backend import Backend
from balancer.pool.lifecycle import Phase
from balancer.pool.trend import Trend
from balancer.supervisor.clock import now
from balancer.supervisor.restart import RestartHistory
from balancer.supervisor.signs import Signs
from balancer.supervisor.spec import Care, Launch
from balancer.telemetry.readings import DIRECTIONS, Durations, Growing

if TYPE_CHECKING:
    from balancer.supervisor.spawn import Process

# After so many starts in a row that came to nothing, requests no longer wait for the next one.
_HOPELESS = 3


class Life(Protocol):
    """One generation of a slot, from start to end: a process of ours (`backend.py`) or an address elsewhere (`remote.py`)."""

    slot: "Slot"
    backend: Backend
    launch: Launch
    care: Care  # of this generation: what a reload changes comes with the next one
    process: "Process | None"
    failure: str  # why the start came to nothing; "" if it did not
    leaving: str  # why it is to be replaced although nobody asked it to leave; "" if it is not
    ready_at: float  # CLOCK_MONOTONIC; 0: never was
    signs: Signs  # of health, as they were seen
    settled: trio.Event  # ready and healthy, or failed
    over: trio.Event  # no longer to be counted on: its slot needs another
    gone: trio.Event  # nothing is left of it

    async def run(self) -> None:
        """Live it, as a task."""
        ...

    @property
    def beat_at(self) -> float:
        """When its last heartbeat came, CLOCK_MONOTONIC seconds; 0: none has."""
        ...

    @property
    def cause(self) -> str:
        """What its end counts as if nobody asked for it: one of `telemetry.readings.RESTART_REASONS`."""
        ...

    def retire(self, reason: str) -> None:
        """Ask it to leave: drain, stop, end. More than once is harmless."""
        ...

    def kill(self) -> None:
        """End it at once."""
        ...

    def kill_overgrown(self, why: str) -> None:
        """It has more memory than it may: end it at once, which counts as a crash; why: in words."""
        ...

    def probe_now(self) -> None:
        """A request told us that something is wrong with it: ask at once."""
        ...


class Slot:
    """What is wanted here, what is here, and what has been counted. Changed in plain functions only."""

    def __init__(self, pool: str, index: int, launch: Launch, care: Care, before: "Slot | None" = None) -> None:
        """before: the slot that had this name once; what was counted goes on, as counters must never go backwards."""
        self.pool = pool
        self.index = index
        self.name = f"{pool}-{index}"
        self.launch = launch
        self.care = care
        # now
        self.wanted = True
        self.is_found = False  # a name led to it, and not the file: rollouts leave it alone
        self.is_displaced = False  # another needs its number
        self.current: Life | None = None
        self.held = False
        self.trends: dict[int, Trend] = {}  # of memory, by generation, where it has a limit
        self.is_drained = False  # an operator wants what is here out of rotation
        self.resume_at = 0.0  # CLOCK_MONOTONIC: when the next start is due
        self.kicked = trio.Event()
        self.says = ""  # its STATUS=… by sd_notify
        # over all processes
        self.generation: int = before.generation if before else 0
        self.history = RestartHistory()
        self.failed_starts = 0  # in a row
        self.boot_seconds = 0.0  # how long the last start took that came about
        self.ejections: int = before.ejections if before else 0
        self.restarts: dict[str, int] = before.restarts if before else {}
        self.probes: dict[str, Durations] = before.probes if before else {}
        self.messages: dict[str, int] = before.messages if before else dict.fromkeys(DIRECTIONS, 0)
        self.cpu: Growing = before.cpu if before else Growing()

    @property
    def phase(self) -> Phase:
        """Of the process that is here; without one, whether another will come."""
        if self.current is not None:
            return self.current.backend.phase
        return Phase.HOLD if self.held else Phase.STOPPED

    def kick(self) -> None:
        """Something about it changed: whoever keeps it should look."""
        event, self.kicked = self.kicked, trio.Event()
        event.set()

    def seconds_to_ready(self, now: float) -> float | None:
        """An estimate of when it takes requests next; None: it is not to be expected."""
        life = self.current
        if not self.wanted or self.held or self.failed_starts >= _HOPELESS:
            return None
        if life is None or life.backend.phase is Phase.STOPPED:  # it has just ended, and is being accounted for
            return max(0.0, self.resume_at - now) + self.boot_seconds
        if life.backend.phase is Phase.STARTING:
            return max(0.0, life.backend.since + self.boot_seconds - now)
        return None

    def count_restart(self, reason: str) -> None:
        """A process was replaced; reason: one of `telemetry.readings.RESTART_REASONS`."""
        self.restarts[reason] = self.restarts.get(reason, 0) + 1


def drain_end(care: Care) -> float:
    """When streams without an end shall have been closed if a drain begins now: a little before the time is up for requests."""
    return now() + 0.9 * care.drain_timeout
