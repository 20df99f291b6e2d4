"""What a backend is: its identity, where it can be reached, and its place on the three axes."""

from dataclasses import dataclass
from typing import NamedTuple

from balancer.pool import lifecycle
from balancer.pool.lifecycle import Health, Intent, Phase, Step


class BackendId(NamedTuple):
    """Slot and generation. Metrics follow the slot; health belongs to one generation: a new process proves itself anew."""

    name: str
    generation: int


@dataclass(slots=True, eq=False)
class Backend:
    """One generation of one slot, while it exists. Address and weight are attributes, not identity."""

    id: BackendId
    pool: str
    group: str
    host: str  # "127.0.0.1", "::1", or "unix:/path" with port 0
    port: int
    row: int  # of the shared table
    weight: int
    backup: bool
    since: float  # CLOCK_MONOTONIC seconds when it started
    is_spawned: bool = True  # false: it runs elsewhere
    tls: str = ""  # the id of its TLS settings, "" for plain
    authority: str = ""  # its own Host, where that is not its address
    phase: Phase = Phase.STOPPED
    health: Health = Health.UNKNOWN
    intent: Intent = Intent.SERVE
    drain_until: float = 0.0  # CLOCK_MONOTONIC: when streams without an end shall have been closed, if it drains

    @property
    def takes_requests(self) -> bool:
        """Whether proxies may choose it for a new request."""
        return lifecycle.takes_requests(self.phase, self.health, self.intent)

    @property
    def would_take_requests(self) -> bool:
        """Whether it is out of rotation for nothing but its ejection."""
        return self.health is Health.EJECTED and lifecycle.takes_requests(self.phase, Health.HEALTHY, self.intent)

    @property
    def address(self) -> str:
        """For people: "127.0.0.1:9000", "[::1]:9000" or "unix:/path"."""
        if self.host.startswith("unix:"):
            return self.host
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def drain(self, until: float) -> None:
        """Take it out of rotation; until: `drain_until`, where it does not drain already."""
        if self.intent is not Intent.DRAIN:
            self.intent = Intent.DRAIN
            self.drain_until = until

    def serve(self) -> None:
        """Back into rotation."""
        self.intent = Intent.SERVE
        self.drain_until = 0.0

    def step(self, step: Step) -> None:
        """Move the phase on. Raises ImpossibleStep."""
        self.phase = lifecycle.after(self.phase, step)
