"""Who changes the processes of pools: one job at a time, in the order in which they were asked for.

Reloads, rolling restarts and changes of number never overlap. A newer job takes over from an older one that it makes pointless,
whether that one waits or is in progress; what takes over finds the pools as the other left them.
"""

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

import trio

from balancer.errors import BalancerError
from balancer.supervisor.progress import Progress
from balancer.supervisor.rollout import RolloutFailed
from balancer.supervisor.waiting import Changes
from balancer.telemetry.events import Events

OK: Final = "ok"
FAILED: Final = "failed"
ROLLED_BACK: Final = "rolled_back"

Work = Callable[[Progress], Awaitable[str]]


class Job:
    """One thing to do. pool "": all of them; backend "": all of the pool's.

    work: does it and gives the last word for whoever watches; RolloutFailed and other BalancerErrors are answers too.
    """

    def __init__(self, kind: str, work: Work, pool: str = "", backend: str = "") -> None:
        self.kind = kind
        self.pool = pool
        self.backend = backend
        self.work = work
        self.progress = Progress()
        self.taken_over = ""  # by a job of this kind

    @property
    def title(self) -> str:
        """For people: "reload", "restart of pool web", "restart of web-3"."""
        return f"{self.kind} of {self.backend or f'pool {self.pool}'}" if self.pool else self.kind

    def takes_over(self, other: "Job") -> bool:
        """Whether the other's result would be undone by this one anyhow."""
        if self.kind == "reload":
            return True
        return (self.kind, self.pool) == (other.kind, other.pool) and self.backend in ("", other.backend)

    def begun(self) -> None:
        """Its turn has come."""

    def ended(self, result: str, text: str) -> None:
        """It has ended: OK, FAILED or ROLLED_BACK. Not called for one that never began."""


class Turns:
    """Runs them. give_way: called when a job comes: what else goes on with the processes of pools must end."""

    def __init__(self, events: Events, give_way: Callable[[], object], bug: Callable[[str, Exception], object]) -> None:
        self._events = events
        self._give_way = give_way
        self._bug = bug
        self._waiting: deque[Job] = deque()
        self._current: Job | None = None
        self._scope = trio.CancelScope()
        self._wake = Changes()

    @property
    def is_idle(self) -> bool:
        """Whether nothing is being done or waits."""
        return not self.jobs

    @property
    def jobs(self) -> list[Job]:
        """The one in progress and those that wait, in their order."""
        return [job for job in (self._current, *self._waiting) if job is not None]

    def begin(self, job: Job) -> Progress:
        """Ask for it."""
        self._give_way()
        for other in [waiting for waiting in self._waiting if job.takes_over(waiting)]:
            self._waiting.remove(other)
            other.progress.finish(False, f"a newer {job.kind} took over")
        if self._current is not None and job.takes_over(self._current):
            self._current.taken_over = job.kind
            self._scope.cancel()
        elif self.jobs:
            job.progress.say("waiting", f"waiting for the {self.jobs[-1].title} in progress")
        self._waiting.append(job)
        self._wake.fire()
        return job.progress

    async def run(self) -> None:
        """Do what is asked for, one after another, until cancelled."""
        try:
            while True:
                await self._wake.until(lambda: bool(self._waiting))
                self._current = self._waiting.popleft()
                with trio.CancelScope() as self._scope:
                    await self._do(self._current)
                self._current = None
        finally:
            for job in self._waiting:
                job.progress.finish(False, "the balancer stops")

    async def _do(self, job: Job) -> None:
        self._events.record(f"{job.kind} started", job.pool, job.backend)
        job.begun()
        result, text = FAILED, "the balancer stops"
        try:
            text = await job.work(job.progress)
            result = OK
        except trio.Cancelled:
            if job.taken_over:
                text = f"a newer {job.taken_over} took over"
            raise
        except RolloutFailed as error:
            result, text = ROLLED_BACK, f"rolled back: {error}"
        except BalancerError as error:
            text = str(error)
        except Exception as error:
            # A bug of ours ends this job, never the supervisor.
            self._bug(f"{job.title} broke off", error)
            text = f"an error of the balancer itself ended the {job.title}: {error!r}"
        finally:
            kind = {OK: f"{job.kind} finished", FAILED: f"{job.kind} failed", ROLLED_BACK: "rolled back"}[result]
            self._events.record(kind, job.pool, job.backend, reason="" if result == OK else text)
            job.ended(result, text)
            job.progress.finish(result == OK, text)
