"""What was seen of the health of one generation: its heartbeats and how its probes ended. What it means: `liveness.py`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProbeResult:
    """How one probe ended. at: CLOCK_MONOTONIC seconds of its end; seconds: how long it took; status: None without an HTTP response."""

    passed: bool
    answered: bool  # if perhaps not as it should
    reason: str  # "" if it passed
    status: int | None
    at: float
    seconds: float


@dataclass(slots=True)
class Signs:
    """What was seen of one process, CLOCK_MONOTONIC seconds; 0: never."""

    beat_at: float = 0.0
    passed_at: float = 0.0  # its probe
    answered_at: float = 0.0  # its probe got an answer, if perhaps not the one that was wanted
    probe_fails: bool = False  # the last one did
    is_late: bool = False  # its heartbeat: no new requests for it
    last_probe: ProbeResult | None = None  # while it starts, too

    def probed(self, at: float, *, passed: bool, answered: bool) -> None:
        """Its probe has ended."""
        self.probe_fails = not passed
        if passed:
            self.passed_at = at
        if answered:
            self.answered_at = at

    def forgive(self, at: float) -> None:
        """Begin anew: what is known is not to be relied on."""
        self.beat_at = self.passed_at = self.answered_at = max(at, self.beat_at)
