"""One proxy process as the supervisor sees it: what it was told, what it has said, whether its loop turns."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import trio

import balancer
from balancer.channel.lines import Channel
from balancer.pool.backend import BackendId
from balancer.supervisor import spawn
from balancer.supervisor.clock import now
from balancer.telemetry.events import Events
from balancer.telemetry.table import TICK, Table

LOOK_INTERVAL: Final = 2.0  # seconds between two looks at whether the proxies' loops turn
# A loop that has not turned for so many looks in a row is stuck for good: a machine that was paused shows one at most.
STUCK_LOOKS: Final = 6


class Proxy:
    """One proxy process and what it was told."""

    def __init__(self, slot: int, process: spawn.Process, channel: Channel) -> None:
        self.slot = slot
        self.process = process
        self.channel = channel
        self.since = now()
        self.is_ready = False
        self.has_let_go = False  # of all backends: they may be killed
        self.sent_number = 0
        self.applied_number = 0
        self.known: set[BackendId] = set()  # of any snapshot sent to it
        self.drained: set[BackendId] = set()  # of those, what it has reported
        self.serving: frozenset[BackendId] = frozenset()  # what the last snapshot sent to it does not show as draining
        self.last_tick = 0
        self.stuck_looks = 0
        self.answers: dict[tuple[str, BackendId], dict[str, Any] | None] = {}  # see `ProxyReports`

    def has_drained(self, id: BackendId) -> None:  # noqa: A002
        """It has reported so; the report may be older than the snapshot on its way, which puts the backend back into rotation."""
        if id not in self.serving:
            self.drained.add(id)

    def holds(self, id: BackendId) -> bool:  # noqa: A002
        """Whether it may have a request or a connection on this backend."""
        return id in self.known and id not in self.drained


async def watch_loops(live: Mapping[int, Proxy], table: Table, events: Events) -> None:
    """Kill a proxy whose loop stands still: its connections hang, and its successor serves what waits in its queue."""
    while True:
        await trio.sleep(LOOK_INTERVAL)
        for proxy in live.values():
            tick = table.cells[table.proxy_base(proxy.slot) + TICK]
            proxy.stuck_looks = proxy.stuck_looks + 1 if proxy.is_ready and tick == proxy.last_tick else 0
            proxy.last_tick = tick
            if proxy.stuck_looks >= STUCK_LOOKS:
                events.record("proxy stuck", proxy=proxy.slot, seconds=STUCK_LOOKS * LOOK_INTERVAL)
                proxy.process.kill()


def environment() -> dict[str, str]:
    """Ours, and where this very package is: it may be a checkout that was found by the working directory."""
    env = spawn.inherited()
    folder = Path(balancer.__file__).parents[1]
    if folder.name not in ("site-packages", "dist-packages"):
        env["PYTHONPATH"] = os.pathsep.join(filter(None, (str(folder), env.get("PYTHONPATH", ""))))
    return env
