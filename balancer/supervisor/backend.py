"""The life of one process of ours, as one task: starting → running → stopping, each returning what comes next.

It starts down; it is in rotation only once it is ready and its probe has passed. What ends it is always recorded before
a signal is sent, so a wanted exit is never taken for a crash.
"""

import socket
from collections.abc import Awaitable, Callable
from typing import Any, Final

import trio

from balancer.errors import BalancerError
from balancer.pool.lifecycle import Health, Intent, Phase, Step
from balancer.settings.placeholders import fill
from balancer.supervisor import spawn
from balancer.supervisor.clock import now
from balancer.supervisor.conversation import Conversation
from balancer.supervisor.ending import Ending
from balancer.supervisor.environment import environment
from balancer.supervisor.generation import Generation
from balancer.supervisor.handover import Handover
from balancer.supervisor.handover_choice import make
from balancer.supervisor.limits import preparation
from balancer.supervisor.liveness import until_hung
from balancer.supervisor.memory import excess, hard_limit
from balancer.supervisor.output import capture
from balancer.supervisor.probing import probe_until_passed, warm_up, watch_health
from balancer.supervisor.resources import memory_of
from balancer.supervisor.slot import Slot
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.surroundings import Surroundings
from balancer.supervisor.waiting import first_of

_REPORT_TIME: Final = 0.5  # seconds for the proxies to say who holds up a drain

Stage = Callable[[], Awaitable["Stage | None"]]


class LocalLife(Generation):
    """One generation of a slot that we start ourselves; see `slot.Life` for what its events mean."""

    def __init__(self, slot: Slot, launch: Launch, care: Care, around: Surroundings) -> None:
        super().__init__(slot, launch, care, around)
        self._hung_for = ""  # why it is to be killed
        self._talk: Conversation | None = None
        self._handover: Handover | None = None
        self.ending = Ending(self.backend, around)

    def kill(self) -> None:
        """SIGKILL to its group."""
        self._reason = self._reason or "killed"
        self._asked.set()
        self.over.set()
        if self.process is not None:
            self.process.kill()

    def kill_overgrown(self, why: str) -> None:
        """SIGKILL to its group, whatever it is doing."""
        if self.process is not None and not self.process.exited.is_set():
            self.ending.is_overgrown = True
            self.ending.killed_for = self.ending.killed_for or why
            self.process.kill()

    @property
    def cause(self) -> str:
        """What its end counts as: one of `telemetry.readings.RESTART_REASONS`."""
        return "heartbeat" if self.ending.is_hung else "memory" if self.ending.is_overgrown else "crash"

    @property
    def listening(self) -> socket.socket | None:
        """Its listening socket, where we have it too."""
        return self._handover.listening if self._handover is not None else None

    @property
    def beat_at(self) -> float:
        """When its last heartbeat came, CLOCK_MONOTONIC seconds."""
        return self._talk.beat_at if self._talk is not None else 0.0

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
        if self.process is not None:
            await self.ending.write_note()
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
                self._fail(f"ended with {self.ending.how} before it was ready")
            return None
        if self._asked.is_set():
            return self._stopping
        if patience.cancelled_caught:
            self.ending.killed_for = "not ready in time"
            self._fail(f"was not ready within {self.care.ready_timeout:g} s{self._silence() or self._trouble()}")
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
            if self._handover is not None and self._handover.is_probed:
                nursery.start_soon(watch_health, self)
            await first_of(self.process.exited.wait, self._asked.wait, self._talk.said_leaving.wait, self._hang)
            nursery.cancel_scope.cancel()
        if self.process.exited.is_set():
            return None
        if self._hung_for and not self._asked.is_set():
            return self._killing
        if not self._asked.is_set():
            # On its own wish: out of rotation now, and its slot starts another at once.
            self.leaving = self._talk.leaving
            self.retire(self.leaving)
        return self._stopping

    async def _hang(self) -> None:
        assert self._talk is not None
        is_probed = self._handover is not None and self._handover.is_probed
        self._hung_for = await until_hung(self, is_probed, self._talk.hung)

    async def _killing(self) -> "Stage | None":
        """It shows no sign of life: note what can still be learnt, and kill it."""
        assert self.process is not None
        # Before the note: the signal for its stack may be the end of it.
        self.ending.killed_for = f"hung: {self._hung_for}"
        await self.ending.note_hung(self.process, self._hung_for, self.care.liveness.dump_signal)
        self.process.kill()
        await self.process.exited.wait()
        return None

    async def _stopping(self) -> "Stage | None":
        assert self.process is not None
        care = self.care
        if self.backend.phase is Phase.RUNNING:
            self._record("draining", reason=self._reason)
            with trio.move_on_after(care.drain_timeout) as patience:
                await first_of(self._finished, self.process.exited.wait)
            if patience.cancelled_caught:
                self._record("drain timeout", requests=await self._holders())
        if self.process.exited.is_set():
            return None
        self.backend.step(Step.STOP)
        self.around.truth.touch()
        self._record("stopping", reason=self._reason)
        if care.stop_message and self._talk is not None:
            self._talk.send("shutdown")
        if self._handover is not None and self._handover.is_going:
            # What it still has to do is its own affair: no signal comes between.
            with trio.move_on_after(care.stop_timeout):
                await self.process.exited.wait()
        self.process.signal(care.stop_signal)
        with trio.move_on_after(care.stop_timeout):
            await self.process.exited.wait()
        if not self.process.exited.is_set():
            self.ending.killed_for = f"did not stop within {care.stop_timeout:g} s"
            self.process.kill()
            await self.process.exited.wait()
        return None

    # What belongs to the process while it lives.

    def _start(self) -> None:
        slot, launch, backend = self.slot, self.launch, self.backend
        self._handover = handover = make(self)
        host, port = backend.host, backend.port = handover.host, handover.port

        def filled(text: str) -> str:
            return fill(text, port=port, host=host, name=slot.name, index=slot.index, pool=slot.pool)

        self._talk = Conversation(slot, backend.id, self.around, handover.hear, handover.longest_line)
        env = environment(slot, backend, launch, self.care, filled, self._talk.environment, handover.environment)
        self.process = spawn.start(
            [filled(word) for word in launch.command],
            env=env,
            cwd=launch.cwd,
            user=launch.user,
            descriptors=[self._talk.descriptor],
            prepare=preparation(launch.limits, slot.index),
            listening=[sock.fileno() for sock in handover.sockets],
        )
        self._talk.begin()
        handover.begin(self._talk)
        self._record("started", pid=self.process.pid, port=port)

    async def _live(self) -> None:
        process, talk = self.process, self._talk
        assert process is not None
        assert talk is not None
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.watch, self._ended)
                nursery.start_soon(capture, process.out, self._deliver("stdout"), process.exited, self.around.sink.room)
                nursery.start_soon(capture, process.err, self._deliver("stderr"), process.exited, self.around.sink.room)
                async with trio.open_nursery() as talking:
                    talking.start_soon(talk.run, self.launch.user, process.exited)
                    stage: Stage | None = self._starting
                    while stage is not None:
                        stage = await stage()
                    # Before its last words are read: no request may go to it any more.
                    self._down()
                    talking.cancel_scope.cancel()
                await self.ending.collect()
        finally:
            # Only a cancelled life, or one that a bug ended, still has a process here.
            process.kill()

    async def _become_ready(self) -> None:
        care = self.care
        assert self._talk is not None
        assert self._handover is not None
        await self._handover.arrive()
        if care.ready_when == "message":
            await self._talk.said_ready.wait()
        if self._handover.is_probed and (care.probe.path or care.ready_when == "probe"):
            await probe_until_passed(self)
        await warm_up(self)
        # Looked at here too, or a release that starts quickly and large would be swapped in everywhere between two looks.
        limit = hard_limit(self.around.truth.pools, self.slot.pool)
        if limit and self.process is not None and (why := excess(memory_of(self.process.pid), limit)):
            self.kill_overgrown(why)
            await self.process.exited.wait()

    async def _finished(self) -> None:
        """Until nothing is on it any more, as far as anybody can know."""
        await self.around.drained(self.backend.id)
        if self._handover is not None and self._talk is not None and self._handover.dismiss():
            await self._talk.closed.wait()

    def _silence(self) -> str:
        """What may be behind it that it never spoke, if it should have."""
        assert self._handover is not None
        assert self._talk is not None
        if missing := self._handover.missing():
            return f": {missing}"
        if self._talk.spoke or not (self.care.ready_when == "message" or self._handover.needs_channel):
            return ""
        return " and never spoke on its channel; does its command start the program by way of another, such as npm?"

    def _trouble(self) -> str:
        return f" ({self.trouble})" if self.trouble else ""

    async def _holders(self) -> list[dict[str, Any]]:
        with trio.move_on_after(_REPORT_TIME):
            return await self.around.holders(self.backend.id)
        return []

    # The end.

    def _ended(self) -> None:
        assert self.process is not None
        # Until it is asked to stop, one that drains is as able to crash as any other.
        is_wanted = self.backend.phase is Phase.STOPPING or (self._asked.is_set() and not self.process.returncode)
        self.ending.seen(self.process, is_wanted=is_wanted, took_requests=self.ready_at > 0)

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
        if self._handover is not None:
            self._handover.close()
        if self._talk is not None:
            self._talk.close()
        if self.process is not None and self.process.returncode is not None:
            is_crash = not self.failure and (self.ending.is_own_doing or not self._asked.is_set())
            suspects = self.ending.attribute()
            self._record("crashed" if is_crash else "exited", **self.ending.detail(suspects, is_crash))
        if not self.ready_at and not self.failure:
            self.failure = f"{self.slot.name} was stopped before it was ready"
        self.slot.cpu.forget(backend.id.generation)
        self.settled.set()
        self.over.set()
        self.gone.set()
        self.around.truth.remove(backend)

    def _deliver(self, stream: str) -> Callable[[str], None]:
        sink, slot, generation = self.around.sink, self.slot, self.backend.id.generation
        return lambda text: sink.line(slot.pool, slot.name, generation, stream, text)

    def _record(self, kind: str, **detail: Any) -> None:
        self.around.events.record(kind, self.slot.pool, self.slot.name, self.backend.id.generation, **detail)
