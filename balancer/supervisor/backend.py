"""The life of one process of ours, as one task: starting → running → stopping, each returning what comes next.

It starts down; it is in rotation only once it is ready and its probe has passed. What ends it is always recorded before
a signal is sent, so a wanted exit is never taken for a crash.
"""

from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from balancer.errors import BalancerError
from balancer.pool.backend import Backend, BackendId
from balancer.pool.health import Streak
from balancer.pool.lifecycle import Health, Intent, Phase, Step
from balancer.settings.placeholders import fill
from balancer.supervisor import spawn
from balancer.supervisor.conversation import Conversation
from balancer.supervisor.output import capture
from balancer.supervisor.probing import probe_until_passed, watch_health
from balancer.supervisor.slot import Slot, now
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.surroundings import Surroundings
from balancer.supervisor.waiting import first_of

_REPORT_TIME: Final = 0.5  # seconds for the proxies to say who holds up a drain

Stage = Callable[[], Awaitable["Stage | None"]]


class LocalLife:
    """One generation of a slot that we start ourselves; see `slot.Life` for what its events mean."""

    def __init__(self, slot: Slot, launch: Launch, care: Care, around: Surroundings) -> None:
        slot.generation += 1
        self.slot = slot
        self.care = care
        self.launch = launch
        self.around = around
        self.backend = Backend(
            id=BackendId(slot.name, slot.generation),
            pool=slot.pool,
            group=launch.group,
            host=launch.host,
            port=0,
            row=around.truth.ledger.open(slot.pool, slot.name),
            weight=care.weight,
            backup=care.backup,
            since=now(),
        )
        self.process: spawn.Process | None = None
        self.failure = ""
        self.leaving = ""
        self.ready_at = 0.0
        self.settled = trio.Event()
        self.over = trio.Event()
        self.gone = trio.Event()
        self.streak = Streak()
        self.suspected = trio.Event()  # probe now
        self._reason = ""
        self._killed_for = ""
        self._asked = trio.Event()  # to leave
        self._talk: Conversation | None = None

    def retire(self, reason: str) -> None:
        """Ask it to leave; reason: a word for the events."""
        if not self._asked.is_set():
            self._reason = reason
            self.backend.intent = Intent.DRAIN
            self._asked.set()
            self.over.set()
            self.around.truth.touch()

    def kill(self) -> None:
        """SIGKILL to its group."""
        self._reason = self._reason or "killed"
        self._asked.set()
        self.over.set()
        if self.process is not None:
            self.process.kill()

    def probe_now(self) -> None:
        """Ask at once instead of at the next interval."""
        self.suspected.set()

    async def run(self) -> None:
        """From the start of the process until nothing is left of it."""
        truth, backend = self.around.truth, self.backend
        backend.step(Step.START)
        truth.add(backend)
        try:
            try:
                self._start()
            except BalancerError as error:
                self._fail(str(error))
            else:
                await self._live()
        finally:
            self._end()
        # A row may be used again only once no proxy can write to it any more.
        await self.around.drained(backend.id)
        truth.ledger.close(backend.pool, backend.id.name, backend.row)

    # The stages.

    async def _starting(self) -> "Stage | None":
        assert self.process is not None
        with trio.move_on_after(self.care.ready_timeout) as patience:
            await first_of(self._become_ready, self.process.exited.wait, self._asked.wait)
        if self.process.exited.is_set():
            if not self._asked.is_set():
                self._fail(f"ended with {self._ending()} before it was ready")
            return None
        if self._asked.is_set():
            return self._stopping
        if patience.cancelled_caught:
            self._killed_for = "not ready in time"
            self._fail(f"was not ready within {self.care.ready_timeout:g} s")
            self.process.kill()
            await self.process.exited.wait()
            return None
        return self._running

    async def _running(self) -> "Stage | None":
        assert self.process is not None
        assert self._talk is not None
        self.backend.step(Step.READY)
        self.backend.health = self.streak.verdict = Health.HEALTHY
        self.ready_at = now()
        self.slot.boot_seconds = self.ready_at - self.backend.since
        self.settled.set()
        self.around.truth.touch()
        self._record("ready", seconds=round(self.slot.boot_seconds, 3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch_health, self)
            await first_of(self.process.exited.wait, self._asked.wait, self._talk.said_leaving.wait)
            nursery.cancel_scope.cancel()
        if self.process.exited.is_set():
            return None
        if not self._asked.is_set():
            # On its own wish: out of rotation now, and its slot starts another at once.
            self.leaving = self._talk.leaving
            self.retire(self.leaving)
        return self._stopping

    async def _stopping(self) -> "Stage | None":
        assert self.process is not None
        care = self.care
        if self.backend.phase is Phase.RUNNING:
            self._record("draining", reason=self._reason)
            with trio.move_on_after(care.drain_timeout) as patience:
                await first_of(self._drained, self.process.exited.wait)
            if patience.cancelled_caught:
                self._record("drain timeout", requests=await self._holders())
        if self.process.exited.is_set():
            return None
        self.backend.step(Step.STOP)
        self.around.truth.touch()
        self._record("stopping", reason=self._reason)
        if care.stop_message and self._talk is not None:
            self._talk.send("shutdown")
        self.process.signal(care.stop_signal)
        with trio.move_on_after(care.stop_timeout):
            await self.process.exited.wait()
        if not self.process.exited.is_set():
            self._killed_for = f"did not stop within {care.stop_timeout:g} s"
            self.process.kill()
            await self.process.exited.wait()
        return None

    # What belongs to the process while it lives.

    def _start(self) -> None:
        slot, launch, backend = self.slot, self.launch, self.backend
        backend.port = self.around.ports.take(launch.host, launch.ports)

        def filled(text: str) -> str:
            return fill(text, port=backend.port, host=launch.host, name=slot.name, index=slot.index, pool=slot.pool)

        self._talk = Conversation(slot, backend.id, self.around)
        env = spawn.inherited()
        env |= {name: filled(text) for name, text in launch.env.items()}
        env |= {
            "PORT": str(backend.port),
            "HOST": launch.host,
            "BALANCER_POOL": slot.pool,
            "BALANCER_BACKEND": slot.name,
            "BALANCER_INDEX": str(slot.index),
            "BALANCER_GENERATION": str(backend.id.generation),
            "NODE_APP_INSTANCE": str(slot.index),
            **self._talk.environment,
        }
        self.process = spawn.start(
            [filled(word) for word in launch.command],
            env=env,
            cwd=launch.cwd,
            user=launch.user,
            descriptors=[self._talk.descriptor],
        )
        self._talk.begin()
        self._record("started", pid=self.process.pid, port=backend.port)

    async def _live(self) -> None:
        process, talk = self.process, self._talk
        assert process is not None
        assert talk is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.watch)
                nursery.start_soon(capture, process.out, self._deliver("stdout"), process.exited)
                nursery.start_soon(capture, process.err, self._deliver("stderr"), process.exited)
                async with trio.open_nursery() as talking:
                    talking.start_soon(talk.run, self.launch.user, process.exited)
                    stage: Stage | None = self._starting
                    while stage is not None:
                        stage = await stage()
                    # Before its last words are read: no request may go to it any more.
                    self._down()
                    talking.cancel_scope.cancel()
        finally:
            # Only a cancelled life, or one that a bug ended, still has a process here.
            process.kill()

    async def _become_ready(self) -> None:
        care = self.care
        assert self._talk is not None
        if care.ready_when == "message":
            await self._talk.said_ready.wait()
            if not care.probe.path:
                return
        await probe_until_passed(self.backend, care.probe)

    async def _drained(self) -> None:
        await self.around.drained(self.backend.id)

    async def _holders(self) -> list[dict[str, Any]]:
        with trio.move_on_after(_REPORT_TIME):
            return await self.around.holders(self.backend.id)
        return []

    # The end.

    def _fail(self, why: str) -> None:
        self.failure = f"{self.slot.name} {why}"
        self._record("start failed", reason=why)
        self.settled.set()

    def _down(self) -> None:
        """Out of rotation for good."""
        if self.backend.phase is not Phase.STOPPED:
            self.backend.step(Step.EXIT)
            self.backend.intent = Intent.DRAIN
            self.around.truth.touch()

    def _end(self) -> None:
        backend = self.backend
        self._down()
        if self._talk is not None:
            self._talk.close()
        if backend.port:
            self.around.ports.give_back(backend.port)
        if self.process is not None and self.process.returncode is not None:
            wanted = self._asked.is_set()
            self._record(
                "exited" if wanted or self.failure else "crashed",
                how=self._ending(),
                **({"killed": self._killed_for} if self._killed_for else {}),
            )
        if not self.ready_at and not self.failure:
            self.failure = f"{self.slot.name} was stopped before it was ready"
        self.slot.cpu.forget(backend.id.generation)
        self.settled.set()
        self.over.set()
        self.gone.set()
        self.around.truth.remove(backend)

    def _ending(self) -> str:
        assert self.process is not None
        assert self.process.returncode is not None
        return spawn.ending(self.process.returncode)

    def _deliver(self, stream: str) -> Callable[[str], None]:
        sink, slot, generation = self.around.sink, self.slot, self.backend.id.generation
        return lambda text: sink.line(slot.pool, slot.name, generation, stream, text)

    def _record(self, kind: str, **detail: Any) -> None:
        self.around.events.record(kind, self.slot.pool, self.slot.name, self.backend.id.generation, **detail)
