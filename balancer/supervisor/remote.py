"""The life of a backend that runs elsewhere: not started, only probed. It starts down, as every backend."""

import socket
from dataclasses import replace
from typing import Final

import trio

from balancer.pool.backend import Backend, BackendId
from balancer.pool.health import Streak
from balancer.pool.lifecycle import Health, Intent, Step
from balancer.supervisor import spawn
from balancer.supervisor.probe import ProbeFailed, probe
from balancer.supervisor.probing import watch_health
from balancer.supervisor.slot import Slot, drain_end, now
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.surroundings import Surroundings

# The system's resolver does not tell how long a record holds; half a minute is what most service discoveries give them.
LOOK_UP_INTERVAL: Final = 30.0
LOOK_UP_TIMEOUT: Final = 10.0


class RemoteLife:
    """See `slot.Life` for what its events mean."""

    def __init__(self, slot: Slot, launch: Launch, care: Care, around: Surroundings) -> None:
        assert launch.address is not None
        slot.generation += 1
        self.slot = slot
        self.care = care
        self.launch = launch
        self.launch = launch
        self.around = around
        self.backend = Backend(
            id=BackendId(slot.name, slot.generation),
            pool=slot.pool,
            group=launch.group,
            tls=care.probe.tls.id if care.probe.tls else "",
            host=launch.address[0],
            port=launch.address[1],
            row=around.truth.ledger.open(slot.pool, slot.name),
            weight=care.weight,
            backup=care.backup,
            since=now(),
            is_spawned=False,
        )
        self.process: spawn.Process | None = None
        self.listening: socket.socket | None = None  # nothing of ours
        self.failure = ""
        self.leaving = ""
        self.ready_at = now()
        self.settled = trio.Event()
        self.over = trio.Event()
        self.gone = trio.Event()
        self.streak = Streak()
        self.suspected = trio.Event()
        self._asked = trio.Event()

    def retire(self, reason: str) -> None:
        """Take it out of rotation and forget it."""
        if not self._asked.is_set():
            self.backend.drain(drain_end(self.care))
            self._asked.set()
            self.over.set()
            self.around.truth.touch()

    def kill(self) -> None:
        """It is not ours to kill: forget it."""
        self.retire("killed")

    def probe_now(self) -> None:
        """Ask at once instead of at the next interval."""
        self.suspected.set()

    async def run(self) -> None:
        """Probe it until it is to leave."""
        truth, backend = self.around.truth, self.backend
        backend.step(Step.START)
        truth.add(backend)
        try:
            found = await self._look_up()
            if found is None:
                self.failure = f"{self.slot.name}: the name {backend.host} has no address"
                self._record("start failed", reason=self.failure)
            else:
                name, backend.host = backend.host, found
                await self._live(name)
        finally:
            backend.step(Step.EXIT)
            backend.intent = Intent.DRAIN
            self.settled.set()
            self.over.set()
            self.gone.set()
            truth.remove(backend)
        await self.around.drained(backend.id)
        truth.ledger.close(backend.pool, backend.id.name, backend.row)

    async def _live(self, name: str) -> None:
        self.backend.step(Step.READY)
        self.around.truth.touch()
        self.suspected.set()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_health, self)
            nursery.start_soon(self._settle)
            if name != self.backend.host:
                nursery.start_soon(self._follow, name)
            await self._asked.wait()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(self.care.drain_timeout):
            await self.around.drained(self.backend.id)

    async def _follow(self, name: str) -> None:
        """A name may come to mean another address: then another generation takes over."""
        while True:
            await trio.sleep(LOOK_UP_INTERVAL)
            found = await self._look_up(name)
            if found not in (None, self.backend.host):
                self.leaving = f"{name} is {found} now"
                self.retire(self.leaving)

    async def _look_up(self, name: str = "") -> str | None:
        """The address of the name, of several the first that answers; None if there is none now.

        A Unix path and an address are their own.
        """
        name = name or self.backend.host
        if name.startswith("unix:"):
            return name
        with trio.move_on_after(LOOK_UP_TIMEOUT):
            try:
                found = await trio.socket.getaddrinfo(name, self.backend.port, type=trio.socket.SOCK_STREAM)
            except OSError:
                return None
            addresses = list(dict.fromkeys(str(address[0]) for *_, address in found))
            # "localhost" may be ::1 first, and the server may listen on 127.0.0.1 only.
            for address in addresses if len(addresses) > 1 else ():
                try:
                    await probe(address, self.backend.port, replace(self.care.probe, path=""))
                    return address
                except ProbeFailed:
                    continue
            return addresses[0]
        return None

    def _record(self, kind: str, **detail: str) -> None:
        self.around.events.record(kind, self.slot.pool, self.slot.name, self.backend.id.generation, **detail)

    async def _settle(self) -> None:
        with trio.move_on_after(self.care.ready_timeout):
            await self.around.truth.changes.until(lambda: self.backend.health is Health.HEALTHY)
        if self.backend.health is not Health.HEALTHY:
            # Nobody gives it up: it may come back at any time.
            self.failure = f"{self.slot.name} passed no probe in {self.care.ready_timeout:g} s"
        self.settled.set()
