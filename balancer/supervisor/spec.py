"""What the settings say about one group of a pool, in the two parts that a reload tells apart.

`Launch` is fixed when a process starts: a change needs a new process. `Care` is how it is looked after: a change applies at once.
"""

import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

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
    ports: tuple[int, int] | None = None  # first and last; None: any
    handover: str = "port"  # "socket" · "node-cluster"
    mode: str = "proxy"  # "shared" · "pass"
    address: tuple[str, int] | None = None  # runs elsewhere: host and port, or ("unix:/path", 0); nothing is started


@dataclass(frozen=True, slots=True)
class ProbeSpec:
    """`[pool.NAME.health]`: seconds, status ranges with both ends in them."""

    path: str = ""
    status: tuple[tuple[int, int], ...] = ((200, 399),)
    body: "re.Pattern[bytes] | None" = None
    interval: float = 2.0
    timeout: float = 2.0
    rise: int = 2
    fall: int = 3


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
    restart: RestartPolicy = DEFAULT_RESTART
    drain_timeout: float = 30.0
    stop_signal: int = signal.SIGTERM
    stop_message: bool = False
    stop_timeout: float = 10.0
