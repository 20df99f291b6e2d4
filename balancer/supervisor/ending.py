"""The end of one backend process: how, by whose doing, with which requests on it.

The proxies hear of it in the very moment, as requests that broke off wait for the reason; people hear of it a little later, when
the proxies have said what it took with it.
"""

import signal
from collections.abc import Awaitable, Callable
from typing import Any, Final, Protocol

import trio

from balancer.pool.backend import Backend, BackendId
from balancer.pool.lifecycle import Health
from balancer.supervisor import spawn
from balancer.supervisor.attribution import OutOfMemory, Suspect, is_own_doing
from balancer.supervisor.clock import now
from balancer.supervisor.forensics import DUMP_TIME, Forensics, is_stopped
from balancer.supervisor.truth import Truth
from balancer.telemetry.events import Events
from balancer.telemetry.table import QUEUE_LENGTH

CASUALTY_TIME: Final = 0.25  # seconds for the proxies to say what a crash took with it: the slot waits for that
REPORT_TIME: Final = 0.5  # seconds for them to say what is on it
_NAMED: Final = 3  # suspects in an event


class Around(Protocol):
    """What it needs of `Surroundings`."""

    @property
    def truth(self) -> Truth: ...
    @property
    def events(self) -> Events: ...
    @property
    def oom(self) -> OutOfMemory: ...
    @property
    def forensics(self) -> Forensics: ...
    @property
    def holders(self) -> Callable[[BackendId], Awaitable[list[dict[str, Any]]]]: ...
    @property
    def exited(self) -> Callable[[BackendId, float, bool, int], None]: ...
    @property
    def casualties(self) -> Callable[[BackendId], Awaitable[list[dict[str, Any]]]]: ...


class Ending:
    """Filled in as things become known. killed_for: why it was us who killed it, "" if it was not."""

    def __init__(self, backend: Backend, around: Around) -> None:
        self.killed_for = ""
        self.is_hung = False  # killed for showing no sign of life
        self.is_frozen = False  # … because somebody had stopped it (SIGSTOP, a debugger)
        self.is_overgrown = False  # killed for having more memory than it may
        self.is_own_doing = False  # a crash: neither wanted nor a signal from outside
        self.is_out_of_memory = False
        self.count = 0  # requests that it took with it
        self.requests: list[dict[str, Any]] = []  # the oldest of them: {"method", "path", "seconds", "request_id"}
        self.upgraded_count = 0  # connections, such as WebSockets, that were open on it and are no suspects
        self.upgraded: list[dict[str, Any]] = []
        self._backend = backend
        self._around = around
        self._returncode = 0
        self._took_requests = False
        self._note = ""  # where the note about a crash goes

    def seen(self, process: spawn.Process, *, is_wanted: bool, took_requests: bool) -> None:
        """It is gone. is_wanted: it had been asked to leave; took_requests: the proxies have known it."""
        assert process.returncode is not None
        self._returncode = process.returncode
        self._took_requests = took_requests
        if self.killed_for:
            self.is_own_doing = (self.is_hung and not self.is_frozen) or (self.is_overgrown and not is_wanted)
        else:
            killed = process.returncode == -signal.SIGKILL
            self.is_out_of_memory = killed and self._around.oom.happened(now())
            self.is_own_doing = not is_wanted and is_own_doing(process.returncode, self.is_out_of_memory)
        if took_requests:
            in_flight = self._around.truth.ledger.table.in_flight(self._backend.row)
            self._around.exited(self._backend.id, process.ended_at, self.is_own_doing, in_flight)

    async def collect(self) -> None:
        """Ask what it took with it, and hold a crash against it."""
        if not self._took_requests:
            return
        answers: list[dict[str, Any]] = []
        with trio.move_on_after(CASUALTY_TIME):
            answers = await self._around.casualties(self._backend.id)
        self.count = sum(int(answer.get("count", 0)) for answer in answers)
        self.requests = [request for answer in answers for request in answer.get("requests", ())]
        self.upgraded_count = sum(int(answer.get("upgraded_count", 0)) for answer in answers)
        self.upgraded = [request for answer in answers for request in answer.get("upgraded", ())]

    async def note_hung(self, process: spawn.Process, why: str, dump_signal: int) -> None:
        """Before it is killed: what it has in flight, its last words, and what the kernel says about it."""
        backend, forensics = self._backend, self._around.forensics
        self.is_hung = True
        self.is_frozen = is_stopped(process.pid)
        backend.health = Health.UNHEALTHY
        self._around.truth.touch()
        path = forensics.path(backend, "hung")
        requests: list[dict[str, Any]] = []
        with trio.move_on_after(REPORT_TIME):
            requests = await self._around.holders(backend.id)
        stopped = {"stopped": "by a signal or a debugger"} if self.is_frozen else {}
        detail = {"reason": why, **stopped, "requests": requests, **({"note": path} if path else {})}
        self._around.events.record("hung", backend.pool, backend.id.name, backend.id.generation, **detail)
        if dump_signal and not self.is_frozen:
            process.signal(dump_signal)
            with trio.move_on_after(DUMP_TIME):
                await process.exited.wait()
        queued = self._queued()
        await forensics.write(path, backend, {"hung": why, **stopped, "waiting in line": queued}, requests, process.pid)

    async def write_note(self) -> None:
        """After a crash, when the slot has been freed."""
        if self._note:
            facts = {"crashed": self.how, "cause": self._cause}
            requests, count = self.requests + self.upgraded, self.count + self.upgraded_count
            await self._around.forensics.write(self._note, self._backend, facts, requests, count=count)

    def _queued(self) -> int:
        ledger = self._around.truth.ledger
        return ledger.table.pool_sums(ledger.pool(self._backend.pool))[QUEUE_LENGTH]

    @property
    def _cause(self) -> str:
        if self.is_overgrown:
            return f"its memory limit: {self.killed_for}"
        if self.is_out_of_memory:
            return "the kernel killed it for want of memory"
        return "its own doing" if self.is_own_doing else "a signal that somebody else sent"

    @property
    def how(self) -> str:
        """For people: "exit code 3", "SIGSEGV", "SIGKILL (out of memory)", "SIGKILL (its memory limit)"."""
        why = "out of memory" if self.is_out_of_memory else "its memory limit" if self.is_overgrown else ""
        return spawn.ending(self._returncode) + (f" ({why})" if why else "")

    def attribute(self) -> list[Suspect]:
        """Hold a crash against the requests that were on it; the suspects, the likeliest first."""
        backend, truth = self._backend, self._around.truth
        if not self.is_own_doing or not self.requests:
            return []
        suspects = truth.attribution.crashed(backend.pool, self.requests, self.count)
        pool = truth.pools.get(backend.pool)
        if pool is not None:
            settings = pool.quarantine
            until = now() + settings.time
            for fingerprint in truth.attribution.quarantine(backend.pool, suspects, settings.after, until):
                self._around.events.record("quarantined", backend.pool, request=fingerprint, seconds=settings.time)
                truth.touch()
        return suspects

    def detail(self, suspects: list[Suspect], is_crash: bool) -> dict[str, Any]:
        """For the event."""
        found: dict[str, Any] = {"how": self.how}
        if self.killed_for:
            found["killed"] = self.killed_for
        if casualties := self.count + self.upgraded_count:
            found |= {"casualties": casualties, "requests": self.requests + self.upgraded}
        if suspects:
            found["suspects"] = [suspect.to_json() for suspect in suspects[:_NAMED]]
        if is_crash and not self.is_hung and self._took_requests:
            self._note = self._around.forensics.path(self._backend, "crashed")
            if self._note:
                found["note"] = self._note
        return found


async def end_quarantines(truth: Truth, events: Events) -> None:
    """Let requests go again whose time in quarantine is over, for ever."""
    while True:
        with trio.move_on_after(max(0.0, truth.attribution.next_release() - now())):
            await truth.changes.wait()
        for pool, fingerprint in truth.attribution.release(now()):
            events.record("quarantine over", pool, request=fingerprint)
            truth.touch()
