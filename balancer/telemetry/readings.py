"""What the exposition shows and the shared table does not hold: plain values that the supervisor fills in for each scrape.

Everything is per *slot* ("web-3"), never per process, so that a series goes on when a process is replaced; `Growing` makes
a process's own counter (CPU seconds) into one of its slot. Durations are seconds, sizes bytes, times Unix seconds.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from balancer.telemetry.table import BUCKETS

PHASES = ("starting", "running", "stopping", "stopped", "hold")
PROBE_RESULTS = ("pass", "fail")
RESTART_REASONS = ("crash", "memory", "requests", "age", "heartbeat", "reload", "operator")
RELOAD_RESULTS = ("ok", "failed", "rolled_back")
# Of messages: from a backend, from it but no JSON or too long, to it, to it but not taken as it does not read.
DIRECTIONS = ("received", "garbage", "sent", "dropped")


class Durations:
    """A histogram with the buckets of the shared table, for what only the supervisor measures (probes)."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)  # per bucket, not cumulative, +Inf last
        self.total = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.total += seconds

    @property
    def count(self) -> int:
        """How many were observed."""
        return sum(self.counts)

    def copy(self) -> "Durations":
        """As it is now."""
        other = Durations()
        other.counts[:] = self.counts
        other.total = self.total
        return other


class Growing:
    """The sum of one counter over all processes of a slot; it never goes backwards, whichever of them are alive."""

    __slots__ = ("_seen", "value")

    def __init__(self) -> None:
        self.value = 0.0
        self._seen: dict[int, float] = {}

    def observe(self, process: int, value: float) -> None:
        """The counter of this process (its generation or pid) stands at `value`."""
        self.value += max(0.0, value - self._seen.get(process, 0.0))
        self._seen[process] = value

    def forget(self, process: int) -> None:
        """That process is gone; what it added stays."""
        self._seen.pop(process, None)


@dataclass(frozen=True, slots=True)
class BackendReading:
    """One backend slot now. The mappings are nobody else's: the exposition reads them in a thread, while life goes on."""

    pool: str
    name: str  # the slot: "web-3"
    phase: str  # one of PHASES
    up: bool  # it runs and is healthy
    takes_requests: bool
    weight: int
    generation: int = 0  # of the process there now, or there last
    group: str = ""  # of the pool; "" in a pool of one
    ejections: int = 0
    probes: Mapping[str, Durations] = field(default_factory=dict)  # by one of PROBE_RESULTS
    last_probe: tuple[bool, float] | None = None  # whether it passed, and its seconds; None: none has ended
    heartbeat_age: float | None = None  # None: the process there now has sent none
    restarts: Mapping[str, int] = field(default_factory=dict)  # by one of RESTART_REASONS
    messages: Mapping[str, int] = field(default_factory=dict)  # by direction
    memory_bytes: int | None = None  # resident, all processes of the slot; None: not known (elsewhere, not running)
    cpu_seconds: float | None = None  # over all processes that the slot ever had: `Growing.value`


@dataclass(frozen=True, slots=True)
class PoolReading:
    """One pool of the settings in force: its series exist from the start, also when nothing was asked of it."""

    name: str
    backends: Sequence[BackendReading] = ()


@dataclass(frozen=True, slots=True)
class ProcessReading:
    """The supervisor ("supervisor") or one proxy slot ("proxy-0")."""

    name: str
    memory_bytes: int
    cpu_seconds: float  # over all processes of the slot: `Growing.value`
    open_fds: int
    start_time: float  # Unix seconds; of the process there now
    restarts: int = 0  # how often a proxy was replaced


@dataclass(frozen=True, slots=True)
class CertificateReading:
    """One certificate of a listener; path: its file; times are Unix seconds."""

    listener: str
    path: str
    not_before: float
    not_after: float


@dataclass(frozen=True, slots=True)
class Reading:
    """Everything for one scrape."""

    pools: Sequence[PoolReading]
    listeners: Sequence[str]  # names
    processes: Sequence[ProcessReading] = ()
    reloads: Mapping[str, int] = field(default_factory=dict)  # by one of RELOAD_RESULTS
    last_reload_ok: bool = True  # the first load of the file counts
    last_reload_time: float = 0.0
    config_version: int = 1  # grows with each applied reload
    certificates: Sequence[CertificateReading] = ()
