"""What every generation of a slot has, a process of ours (`backend.py`) like an address elsewhere (`remote.py`)."""

import socket

import trio

from balancer.pool.backend import Backend, BackendId
from balancer.pool.health import Streak
from balancer.supervisor import spawn
from balancer.supervisor.clock import now
from balancer.supervisor.signs import Signs
from balancer.supervisor.slot import Slot, drain_end
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.surroundings import Surroundings


class Generation:
    """The state that `slot.Life` shows, and how it is asked to leave; it counts in the shared table from the beginning."""

    def __init__(self, slot: Slot, launch: Launch, care: Care, around: Surroundings) -> None:
        """Raises LedgerFull when there is no row for it."""
        slot.generation += 1
        self.slot = slot
        self.launch = launch
        self.care = care
        self.around = around
        host, port = launch.address or (launch.host, 0)
        self.backend = Backend(
            id=BackendId(slot.name, slot.generation),
            pool=slot.pool,
            group=launch.group,
            host=host,
            port=port,
            row=around.truth.ledger.open(slot.pool, slot.name),
            weight=care.weight,
            backup=care.backup,
            since=now(),
            is_spawned=launch.address is None,
            tls=care.probe.tls.id if care.probe.tls else "",
            authority=launch.authority,
        )
        self.process: spawn.Process | None = None
        self.trouble = ""  # what the last attempt to see it ready met
        self.failure = ""
        self.leaving = ""
        self.ready_at = 0.0
        self.settled = trio.Event()
        self.over = trio.Event()
        self.gone = trio.Event()
        self.streak = Streak()
        self.signs = Signs()
        self.suspected = trio.Event()  # probe now
        self._asked = trio.Event()  # to leave
        self._reason = ""

    @property
    def beat_at(self) -> float:
        """When its last heartbeat came, CLOCK_MONOTONIC seconds; 0: none has."""
        return 0.0

    @property
    def listening(self) -> socket.socket | None:
        """Its listening socket, where we have it too; see `probe`."""
        return None

    def retire(self, reason: str) -> None:
        """Ask it to leave, out of rotation at once; reason: a word for the events."""
        if not self._asked.is_set():
            self._reason = reason
            self.backend.drain(drain_end(self.care))
            self._asked.set()
            self.over.set()
            self.around.truth.touch()

    def probe_now(self) -> None:
        """Ask at once instead of at the next interval."""
        self.suspected.set()
