"""A reload: the file is read again, the difference applied, every backend replaced; or nothing of it, and why.

Reloads never overlap: a newer one takes over from the one in progress.
"""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import trio

from balancer.settings.changes import Changes as SettingsChanges
from balancer.settings.changes import changes
from balancer.settings.load import load
from balancer.settings.model import Settings
from balancer.supervisor.listeners import ListenerSockets
from balancer.supervisor.merged import mergeable
from balancer.supervisor.notify import tell_service_manager
from balancer.supervisor.progress import Progress
from balancer.supervisor.rollout import Rollout, RolloutFailed
from balancer.supervisor.turns import OK, Job
from balancer.supervisor.wanted import guard_of, wanted_slots

if TYPE_CHECKING:
    from balancer.supervisor.process import Supervisor

LOAD_TIMEOUT: Final = 30.0  # seconds; a file on a network file system may not answer at all


class Reload(Job):
    """One reload."""

    def __init__(self, reloads: "Reloads") -> None:
        super().__init__("reload", reloads.work)
        self._reloads = reloads

    def begun(self) -> None:
        """The service manager is told as `Type=notify-reload` wants it."""
        tell_service_manager(RELOADING="1", MONOTONIC_USEC=str(time.monotonic_ns() // 1000))

    def ended(self, result: str, text: str) -> None:
        """Count it."""
        self._reloads.count(result)
        tell_service_manager(READY="1", STATUS="serving" if result == OK else f"reload failed: {text}"[:200])


class Reloads:
    """What a reload does, and the score."""

    def __init__(self, supervisor: "Supervisor") -> None:
        self._supervisor = supervisor
        self.results: dict[str, int] = {}
        self.last_ok = True
        self.last_time = time.time()
        self.version = 1

    def begin(self) -> Progress:
        """Ask for one; whatever else is being done to pools ends."""
        return self._supervisor.turns.begin(Reload(self))

    def count(self, result: str) -> None:
        """One has ended."""
        self.results[result] = self.results.get(result, 0) + 1
        self.last_ok = result == OK
        self.last_time = time.time()

    async def work(self, progress: Progress) -> str:
        """Do it. Raises RolloutFailed, SettingsError and other BalancerErrors; gives the last word."""
        supervisor = self._supervisor
        old = supervisor.truth.settings
        progress.say("reading", f"reading {old.path}")
        new = await self.load(old.path)
        found = changes(old, new)
        left = [change.key for change in found.restart]
        for change in found.restart:
            text = f"{change.key} needs a restart; {f'it stays {change.old}' if change.old else 'until then it is not there'}"
            progress.say("needs restart", text, key=change.key)
            supervisor.log.warning(text)
        await self._apply(progress, old, mergeable(old, new), found)
        self.version += 1
        # Again in the last word: whoever reads nothing else, and whatever reads the API, must not think that all of the file holds.
        progress.known["needs_restart"] = left
        return f"reload complete, but for what needs a restart: {', '.join(left)}" if left else "reload complete"

    async def load(self, path: Path) -> Settings:
        """Read a file, for as long as a file may take. Raises SettingsError, RolloutFailed."""
        with trio.move_on_after(LOAD_TIMEOUT):
            return await trio.to_thread.run_sync(load, path, abandon_on_cancel=True)
        raise RolloutFailed(f"{path} could not be read within {LOAD_TIMEOUT:g} s")

    async def _follow_names(self, pool: str) -> None:
        trouble = await self._supervisor.names.settled(pool)
        if trouble:
            raise RolloutFailed(trouble)

    async def _apply(self, progress: Progress, old: Settings, new: Settings, found: SettingsChanges) -> None:
        supervisor, truth, fleet = self._supervisor, self._supervisor.truth, self._supervisor.fleet
        # Bound before anything is changed, opened when nothing can fail any more: nobody connects to what a reload takes back.
        added = {name: listener for name, listener in new.listen.items() if name not in old.listen}
        for name in added:
            truth.ledger.listener(name)
        opening = ListenerSockets(added, supervisor.proxies.table.proxies, is_open=False)
        whole, new = new, new.model_copy(update={"listen": {name: new.listen[name] for name in old.listen}})
        settled = dict(old.pool)  # pool by pool, what is in force whatever happens to the rest
        leaving = {name: old.pool[name] for name in found.pools_removed}
        try:
            before = supervisor.material.load(whole)
        except BaseException:
            opening.close()
            raise
        truth.extra = {**leaving, **{name: new.pool[name] for name in found.pools_added}}
        finished: list[str] = []
        complete = False
        try:
            for name in found.pools_added:
                # Before anything is routed to them: a pool that does not come up changes nothing.
                progress.say("pool", f"pool {name}: new", pool=name)
                await Rollout(fleet, name, progress.say).run(wanted_slots(new.pool[name]), 1)
                await self._follow_names(name)
            truth.settings = new
            truth.touch()
            supervisor.record.apply(new)
            for name, pool in new.pool.items():
                if name not in found.pools_added:
                    progress.say("pool", f"pool {name}: replacing {pool.backend_count} backends", pool=name)
                    rollout = Rollout(fleet, name, progress.say, guard=guard_of(pool))
                    await rollout.run(wanted_slots(pool), pool.rollout.surge.of(pool.backend_count))
                    await self._follow_names(name)
                    settled[name] = pool
                    finished.append(name)
            complete = True
        except RolloutFailed as failure:
            if not finished:
                raise
            raise RolloutFailed(
                f"{failure}; replaced before that, and left so: pool {', '.join(finished)}"
            ) from failure
        finally:
            if not complete:
                opening.close()
                # What a reload that failed, or was taken over from, leaves behind is what ran before, but for the pools that it finished.
                truth.settings = old.model_copy(update={"pool": settled})
                truth.extra = {}
                supervisor.material.restore(before)
                for name in found.pools_added:
                    # Nobody waits for it: this may be the end of a reload that another one took over from.
                    fleet.begin_removing_pool(name, "rolled back")
                truth.touch()
                supervisor.record.apply(old)
        self._open(progress, whole, opening)
        for name in found.pools_removed:
            progress.say("pool", f"pool {name}: removed", pool=name)
            await fleet.remove_pool(name, "pool removed")
        truth.extra = {}
        truth.touch()

    def _open(self, progress: Progress, settings: Settings, opening: ListenerSockets) -> None:
        """Let clients come to listeners that are new. Proxies that start later get them as they get all."""
        proxies, truth = self._supervisor.proxies, self._supervisor.truth
        if not opening.addresses:
            return
        try:
            self._supervisor.material.load(settings)  # again, as a look at the files may have come between
        except BaseException:
            opening.close()
            raise
        truth.settings = settings
        truth.touch()
        proxies.sockets.take_over(opening)
        for slot, proxy in proxies.live.items():
            for name, sock in opening.of(slot).items():
                if sock.fileno() >= 0:
                    proxy.channel.send({"type": "listener", "name": name}, [sock.fileno()])
        for name, address in opening.addresses.items():
            progress.say("listening", f"listen.{name}: listening on {address}", listener=name)
            proxies.events.record("listening", listener=name, address=address)
