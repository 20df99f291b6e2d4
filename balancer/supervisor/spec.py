"""What the settings say about one group of a pool, in the two parts that a reload tells apart.

`Launch` is fixed when a process starts: a change needs a new process. `Care` is how it is looked after: a change applies at once.
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Final

from balancer.settings.model_pool import Group
from balancer.supervisor.limits import NO_LIMITS, LimitsSpec
from balancer.supervisor.restart import RestartPolicy


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a process, or where one runs already. Placeholders are not filled in yet."""

    group: str
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str = "/"
    user: str = ""
    host: str = "127.0.0.1"
    limits: LimitsSpec = NO_LIMITS
    ports: tuple[int, int] | None = None  # first and last; None: any
    handover: str = "port"  # "socket" · "node-cluster"
    mode: str = "proxy"  # "shared" · "pass"
    address: tuple[str, int] | None = None  # runs elsewhere: host and port, or ("unix:/path", 0); nothing is started
    authority: str = ""  # its own Host, where the address comes from a name


@dataclass(frozen=True, slots=True)
class UpstreamTls:
    """TLS towards the backends of a group; files by their paths, "" for none."""

    server_name: str
    verify: bool
    ca: str
    cert: str
    key: str

    @property
    def id(self) -> str:
        """By which a backend's picture refers to it: another when anything in it is another."""
        return sha256(repr(self).encode()).hexdigest()[:16]

    @property
    def paths(self) -> list[str]:
        """The files."""
        return [path for path in (self.ca, self.cert, self.key) if path]


def upstream_tls(group: Group) -> UpstreamTls | None:
    """What a group's settings say; the name in the certificate is the address's host unless they say another."""
    tls, address = group.tls, group.address
    if tls is None or address is None:
        return None
    name = tls.server_name or ("" if address.is_unix else address.host)
    return UpstreamTls(name, tls.verify, tls.ca, tls.cert, tls.key)


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """`[pool.NAME.health]`: seconds, status ranges with both ends in them; tls: how the backend is spoken to at all."""

    path: str = ""
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    body: "re.Pattern[bytes] | None" = None
    interval: float = 2.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3
    tls: UpstreamTls | None = None


@dataclass(frozen=True, slots=True)
class LivenessSpec:
    """`[pool.NAME.health]`: seconds, 0 for never; dump_signal: a number, 0 for none."""

    heartbeat: float = 0.0
    hang_timeout: float = 0.0
    dump_signal: int = 0


DEFAULT_RESTART: Final = RestartPolicy(0.1, 30.0, 10.0)


@dataclass(frozen=True, slots=True)
class Care:
    """How a backend is looked after."""

    weight: int = 1
    backup: bool = False
    ready_when: str = "probe"  # or "message"
    ready_timeout: float = 30.0
    warmup: tuple[str, ...] = ()  # paths
    probe: ProbeSpec = ProbeSpec()
    liveness: LivenessSpec = LivenessSpec()
    restart: RestartPolicy = DEFAULT_RESTART
    drain_timeout: float = 30.0
    stop_signal: int = signal.SIGTERM
    stop_message: bool = False
    stop_timeout: float = 10.0
