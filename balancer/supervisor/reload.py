"""A reload: the file is read again, the difference applied, every backend replaced; or nothing of it, and why.

Reloads never overlap: a newer one takes over from the one in progress.
"""

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import trio

from balancer.errors import BalancerError
from balancer.settings.changes import Changes as SettingsChanges
from balancer.settings.changes import changes
from balancer.settings.load import load
from balancer.settings.model import Settings
from balancer.settings.problems import SettingsError
from balancer.supervisor.merged import mergeable
from balancer.supervisor.notify import tell_service_manager
from balancer.supervisor.rollout import Rollout, RolloutFailed
from balancer.supervisor.waiting import Changes
from balancer.supervisor.wanted import wanted_slots

if TYPE_CHECKING:
    from balancer.supervisor.process import Supervisor

LOAD_TIMEOUT: Final = 30.0  # seconds; a file on a network file system may not answer at all


class Reload:
    """One reload and what it has said so far; the last thing it says is {"event": "done", "ok": …}."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.changes = Changes()
        self.is_done = False

    def say(self, event: str, text: str, **fields: Any) -> None:
        """One step of progress, for whoever watches."""
        self.said.append({"event": event, "text": text, **fields})
        self.changes.fire()

    def finish(self, ok: bool, text: str) -> None:
        """The last word."""
        if not self.is_done:
            self.is_done = True
            self.say("done", text, ok=ok)

    async def progress(self) -> AsyncIterator[dict[str, Any]]:
        """Everything it says, from the beginning to the last word."""
        seen = 0
        while True:
            while seen < len(self.said):
                yield self.said[seen]
                seen += 1
            if self.is_done:
                return
            await self.changes.wait()


class Reloads:
    """Runs one at a time and keeps the score."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self._next: Reload | None = None
        self._wake = Changes()
        self._scope = trio.CancelScope()
        self.results: dict[str, int] = {}
        self.last_ok = True
        self.last_time = time.time()
        self.version = 1

    def begin(self) -> Reload:
        """Ask for one; one in progress ends, one that waits never begins."""
        if self._next is not None:
            self._next.finish(False, "a newer reload took over")
        self._next = Reload()
        self._scope.cancel()
        self._wake.fire()
        return self._next

    async def run(self) -> None:
        """Do what is asked for, one after another."""
        while True:
            await self._wake.until(lambda: self._next is not None)
            reload, self._next = self._next, None
            assert reload is not None
            with trio.CancelScope() as self._scope, self._ending(reload):
                await self._reload(reload)

    @contextmanager
    def _ending(self, reload: Reload) -> Iterator[None]:
        events = self._supervisor.events
        events.record("reload started")
        tell_service_manager(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))
        result, text = "failed", "a newer reload took over"
        try:
            yield
            result, text = "ok", "reload complete"
        except SettingsError as error:
            text = str(error)
        except RolloutFailed as error:
            result, text = "rolled_back", f"rolled back: {error}"
        except BalancerError as error:
            text = str(error)
        except Exception as error:
            # A bug of ours ends this reload, never the supervisor.
            self._supervisor.log.error("reload broke off", exc_info=error)
            text = f"an error of the balancer itself ended the reload: {error!r}"
        finally:
            self.results[result] = self.results.get(result, 0) + 1
            self.last_ok = result == "ok"
            self.last_time = time.time()
            kind = {"ok": "reload finished", "failed": "reload failed", "rolled_back": "rolled back"}[result]
            events.record(kind, reason="" if self.last_ok else text)
            reload.finish(self.last_ok, text)
            tell_service_manager(READY="1", STATUS="serving" if self.last_ok else f"reload failed: {text}"[:200])

    async def _reload(self, reload: Reload) -> None:
        supervisor = self._supervisor
        old = supervisor.truth.settings
        reload.say("reading", f"reading {old.path}")
        new = await self._load(old)
        found = changes(old, new)
        for change in found.restart:
            text = f"{change.key} needs a restart; it stays {change.old or 'as it is'}"
            reload.say("needs restart", text, key=change.key)
            supervisor.log.warning(text)
        await self._apply(reload, old, mergeable(old, new), found)
        self.version += 1

    async def _load(self, old: Settings) -> Settings:
        with trio.move_on_after(LOAD_TIMEOUT):
            return await trio.to_thread.run_sync(load, old.path, abandon_on_cancel=True)
        raise RolloutFailed(f"{old.path} could not be read within {LOAD_TIMEOUT:g} s")

    async def _apply(self, reload: Reload, old: Settings, new: Settings, found: SettingsChanges) -> None:
        supervisor, truth, fleet = self._supervisor, self._supervisor.truth, self._supervisor.fleet
        settled = dict(old.pool)  # pool by pool, what is in force whatever happens to the rest
        leaving = {name: old.pool[name] for name in found.pools_removed}
        truth.extra = {**leaving, **{name: new.pool[name] for name in found.pools_added}}
        complete = False
        try:
            for name in found.pools_added:
                # Before anything is routed to them: a pool that does not come up changes nothing.
                reload.say("pool", f"pool {name}: new", pool=name)
                await Rollout(fleet, name, reload.say).run(wanted_slots(new.pool[name]), 1)
            truth.settings = new
            truth.touch()
            supervisor.log.set(new.log.level, new.log.format)
            for name, pool in new.pool.items():
                if name not in found.pools_added:
                    reload.say("pool", f"pool {name}: replacing {pool.backend_count} backends", pool=name)
                    rollout = Rollout(fleet, name, reload.say)
                    await rollout.run(wanted_slots(pool), pool.rollout.surge.of(pool.backend_count))
                    settled[name] = pool
            complete = True
        finally:
            if not complete:
                # What a reload that failed, or was taken over from, leaves behind is what ran before, but for the pools that it finished.
                truth.settings = old.model_copy(update={"pool": settled})
                truth.extra = {}
                for name in found.pools_added:
                    # Nobody waits for it: this may be the end of a reload that another one took over from.
                    fleet.begin_removing_pool(name, "rolled back")
                truth.touch()
                supervisor.log.set(old.log.level, old.log.format)
        for name in found.pools_removed:
            reload.say("pool", f"pool {name}: removed", pool=name)
            await fleet.remove_pool(name, "pool removed")
        truth.extra = {}
        truth.touch()
