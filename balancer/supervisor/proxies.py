"""The proxy processes: started, told every change, replaced when they die, drained when the balancer stops."""

import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import trio

from balancer.channel.lines import Channel
from balancer.errors import BalancerError, ChannelClosed
from balancer.pool.backend import BackendId
from balancer.supervisor import spawn
from balancer.supervisor.clock import now
from balancer.supervisor.doors import Door
from balancer.supervisor.listeners import ListenerSockets
from balancer.supervisor.output import LineSink, capture
from balancer.supervisor.proxy import Proxy, environment, watch_loops
from balancer.supervisor.proxy_reports import ProxyReports
from balancer.supervisor.truth import Truth
from balancer.supervisor.waiting import Changes
from balancer.telemetry.events import Events
from balancer.telemetry.readings import Growing
from balancer.telemetry.table import Table

LARGEST_SNAPSHOT: Final = 64 * 1024 * 1024
SOUND_AFTER: Final = 2.0  # seconds: a proxy that lived so long was sound; its successor starts at once
LONGEST_PAUSE: Final = 3.0
MANY: Final = 5  # deaths in a row until it is said loudly
GRACE: Final = 2.0  # seconds beyond `proxy.shutdown_timeout` for a proxy that stops
LETTING_GO: Final = 0.2  # seconds for them to end the requests that still wait for backends, before those are killed
LAST_MOMENT: Final = 1.5  # seconds for responses already begun when everything ends at once


class Proxies:
    """One process per slot; `changes` fires when one comes, goes, or reports."""

    def __init__(
        self,
        truth: Truth,
        table: Table,
        sockets: ListenerSockets,
        *,
        events: Events,
        sink: LineSink,
        observed: Callable[[BackendId, str], None],
        log: Callable[[str, str, Mapping[str, Any]], None],
        bug: Callable[[str, Exception], object],
        module: str = "balancer.proxy",
        first_word: Callable[[], Any] = lambda: None,
    ) -> None:
        self.truth = truth
        self.table = table
        self.sockets = sockets
        self.events = events
        self.sink = sink
        self.observed = observed  # a request's outcome, see `View.observe`
        self.log = log  # (level, event, fields)
        self.bug = bug
        self.module = module
        self.first_word = first_word  # what a proxy is to hear before its first snapshot, if anything
        self.live: dict[int, Proxy] = {}
        self.changes = Changes()
        self._reports = ProxyReports(lambda: self.live.values(), self.changes)
        self.replaced = [0] * table.proxies
        self.cpu = [Growing() for _ in range(table.proxies)]
        # Down these a proxy gives a place on a backend to a request that waits in another (`proxy/queue`).
        self._grants = [os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC) for _ in range(table.proxies)]
        self._doors: dict[BackendId, Door] = {}
        self._stopping = trio.Event()
        self._latest: dict[str, Any] = {"number": 0}
        self._latest_ids: frozenset[BackendId] = frozenset()
        self._serving: frozenset[BackendId] = frozenset()  # of those, what does not drain

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep every slot alive, and every proxy informed, until stopped; started once each slot had its first process."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._publish)
            nursery.start_soon(watch_loops, self.live, self.table, self.events)
            async with trio.open_nursery() as slots:
                for slot in range(self.table.proxies):
                    spawned = trio.Event()
                    slots.start_soon(self._keep, slot, spawned, name=f"proxy {slot}")
                    await spawned.wait()
                task_status.started()
            nursery.cancel_scope.cancel()

    def open(self, id: BackendId, pool: str, descriptor: int, line: dict[str, Any]) -> None:  # noqa: A002
        """See `doors`."""
        door = self._doors[id] = Door(pool, descriptor, line)
        for proxy in self.live.values():
            proxy.channel.send(door.message(id), [descriptor])

    def close(self, id: BackendId) -> None:  # noqa: A002
        """See `doors`. Proxies that hold a copy close it when they are told, or when a write fails."""
        door = self._doors.pop(id, None)
        if door is not None:
            self.tell({**door.message(id), "type": "door closed"})

    def is_ready(self, slot: int) -> bool:
        """Whether the proxy of this slot accepts connections."""
        return slot in self.live and self.live[slot].is_ready

    async def drained(self, id: BackendId) -> None:  # noqa: A002
        """Until no proxy holds anything on this backend; one that dies holds nothing."""
        await self.changes.until(lambda: not any(proxy.holds(id) for proxy in self.live.values()))

    async def holders(self, id: BackendId) -> list[dict[str, Any]]:  # noqa: A002
        """Which requests are on this backend: [{"method", "path", "seconds"}]; the caller sets the limit."""
        self._reports.ask(id, "draining", {"type": "report"})
        answers = await self._reports.answers(id, "draining")
        return [request for answer in answers for request in answer.get("requests", ())]

    def exited(self, id: BackendId, at: float, own_doing: bool, in_flight: int) -> None:  # noqa: A002
        """Tell every proxy at once that this process has ended: requests that broke off wait for it. See `casualties`."""
        told = {"type": "exited", "at": at, "own_doing": own_doing, "in_flight": in_flight}
        self._reports.ask(id, "casualties", told)

    async def casualties(self, id: BackendId) -> list[dict[str, Any]]:  # noqa: A002
        """What it took with it, after `exited`: each proxy's {"count", "requests": […]}; the caller sets the limit."""
        return await self._reports.answers(id, "casualties")

    async def applied(self) -> None:
        """Until every live proxy works with the truth as it is now."""
        target = self.truth.number + (1 if self.truth.is_dirty else 0)
        await self.changes.until(lambda: all(p.applied_number >= target for p in self.live.values()))

    async def stop(self, patience: float) -> None:
        """No new connections; returns when the last proxy has finished and ended, or after `patience` seconds and a bit."""
        self._end("stop")
        with trio.move_on_after(patience + GRACE):
            await self.changes.until(lambda: not self.live)
        for proxy in self.live.values():
            proxy.process.kill()
        await self.changes.until(lambda: not self.live)

    async def stop_now(self, kill: Callable[[], object]) -> None:
        """A moment for responses already begun, then SIGKILL.

        kill: ends the backends. It is called once nobody waits for them any more, or their end would be taken for their own doing.
        """
        self._end("stop_now")
        with trio.move_on_after(LETTING_GO):
            await self.changes.until(lambda: all(proxy.has_let_go for proxy in self.live.values()))
        kill()
        with trio.move_on_after(LAST_MOMENT):
            await self.changes.until(lambda: not self.live)
        for proxy in self.live.values():
            proxy.process.kill()

    def reopen(self) -> None:
        """Their log files anew."""
        self.tell({"type": "reopen"})

    def _end(self, kind: str) -> None:
        self._stopping.set()
        # Ours too, or the kernel would go on queueing connections that nobody accepts.
        self.sockets.close()
        self.tell({"type": kind})

    def tell(self, value: Any) -> None:
        """Say this to all of them."""
        for proxy in self.live.values():
            proxy.channel.send(value)

    # The life of a slot.

    async def _keep(self, slot: int, spawned: trio.Event) -> None:
        deaths = 0
        while not self._stopping.is_set():
            started = now()
            try:
                proxy = self._start(slot)
            except BalancerError as error:
                how = str(error)
                spawned.set()
            else:
                spawned.set()
                try:
                    await self._live(proxy)
                except Exception as error:
                    self.bug(f"proxy {slot}: its task broke off", error)
                await proxy.process.exited.wait()
                assert proxy.process.returncode is not None
                how = spawn.ending(proxy.process.returncode)
                self._forget(proxy)
            if self._stopping.is_set():
                return
            deaths = 0 if now() - started >= SOUND_AFTER else deaths + 1
            self.replaced[slot] += 1
            self.events.record("proxy died", proxy=slot, how=how, deaths=max(1, deaths))
            if deaths and deaths % MANY == 0:
                self.log("error", f"proxy {slot} cannot be kept alive", {"how": how, "deaths": deaths})
                if any(proxy.is_ready for proxy in self.live.values()):
                    # Or connections would hang in its queue: now the others get them all.
                    self.sockets.give_up(slot)
            # The first successor comes at once: connections wait in the queue of its socket.
            pause = 0.0 if deaths <= 1 else min(0.05 * 2.0**deaths, LONGEST_PAUSE)
            with trio.move_on_after(pause):
                await self._stopping.wait()

    def _start(self, slot: int) -> Proxy:
        ours, theirs = spawn.socket_pair()
        self.sockets.restore(slot)
        sockets = self.sockets.of(slot)
        listeners = [f"{name}={sock.fileno()}" for name, sock in sockets.items()]
        # Without -P Python would look into the working directory first.
        command = [sys.executable, "-P", "-m", self.module]
        grants = [self._grants[slot][0], *(write_end for _, write_end in self._grants)]
        command += [str(theirs.fileno()), str(self.table.fd), self.table.shape, str(slot)]
        # It becomes that user itself, once it is loaded: the interpreter may stand in a folder that only we can enter.
        command += [",".join(map(str, grants)), self.truth.settings.proxy.user, *listeners]
        try:
            process = spawn.start(
                command,
                env=environment(),
                cwd="/",
                descriptors=[
                    theirs.fileno(),
                    self.table.fd,
                    *set(grants),
                    *(sock.fileno() for sock in sockets.values()),
                ],
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        channel = Channel(ours, max_line=LARGEST_SNAPSHOT, max_queued=2 * LARGEST_SNAPSHOT)
        proxy = self.live[slot] = Proxy(slot, process, channel)
        if (first := self.first_word()) is not None:
            channel.send(first)
        self._offer(proxy)
        for id, door in self._doors.items():  # noqa: A001
            channel.send(door.message(id), [door.descriptor])
        return proxy

    async def _live(self, proxy: Proxy) -> None:
        process = proxy.process
        name = f"proxy-{proxy.slot}"
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(process.watch)
                for fd, stream in ((process.out, "stdout"), (process.err, "stderr")):
                    nursery.start_soon(
                        capture, fd, self._deliver(name, process.pid, stream), process.exited, self.sink.room
                    )
                async with trio.open_nursery() as talk:
                    talk.start_soon(proxy.channel.run)
                    talk.start_soon(self._listen, proxy)
                    await process.exited.wait()
                    talk.cancel_scope.cancel()
        finally:
            process.kill()
            proxy.channel.close()

    def _forget(self, proxy: Proxy) -> None:
        del self.live[proxy.slot]
        self.table.clear_gauges(proxy.slot)
        self.cpu[proxy.slot].forget(proxy.process.pid)
        self.changes.fire()

    def _deliver(self, name: str, pid: int, stream: str) -> Callable[[str], None]:
        return lambda text: self.sink.line("", name, pid, stream, text)

    # What is said.

    async def _publish(self) -> None:
        """Coalesces: whatever changed in one turn of the loop is one snapshot, and each proxy has one under way at a time."""
        while True:
            await self.truth.changes.until(lambda: self.truth.is_dirty)
            await trio.lowlevel.checkpoint()
            try:
                self._make_snapshot()
            except Exception as error:
                # The proxies go on with what they have.
                self.truth.is_dirty = False
                self.bug("no snapshot could be made", error)
            for proxy in self.live.values():
                self._offer(proxy)

    def _make_snapshot(self) -> None:
        snapshot = self.truth.snapshot()
        self._latest = snapshot.to_json()
        shown = [backend for pool in snapshot.pools for backend in pool.backends]
        self._latest_ids = frozenset(BackendId(backend.name, backend.generation) for backend in shown)
        self._serving = frozenset(BackendId(b.name, b.generation) for b in shown if not b.draining)

    def _offer(self, proxy: Proxy) -> None:
        if not self._latest["number"]:
            self._make_snapshot()
        number = self._latest["number"]
        if proxy.sent_number != proxy.applied_number or proxy.sent_number == number:
            return
        proxy.sent_number = number
        proxy.known = {b for b in proxy.known if b in self.truth.backends or proxy.holds(b)} | self._latest_ids
        proxy.serving = self._serving
        proxy.drained = (proxy.drained & proxy.known) - proxy.serving
        if not proxy.channel.send(self._latest) and proxy.channel.is_open:  # of one that is gone its end tells
            self.log("error", f"proxy {proxy.slot} does not take snapshot {number}", {})

    async def _listen(self, proxy: Proxy) -> None:
        try:
            while True:
                value = await proxy.channel.receive()
                if isinstance(value, dict):
                    self._hear(proxy, value)
        except ChannelClosed:
            # Without its channel it is out of control, whatever it still does.
            if not self._stopping.is_set():
                with trio.move_on_after(1):
                    await proxy.process.exited.wait()
                proxy.process.kill()

    def _hear(self, proxy: Proxy, value: dict[str, Any]) -> None:
        id = BackendId(str(value.get("backend", "")), int(value.get("generation", 0)))  # noqa: A001
        match value.get("type"):
            case "ready":
                proxy.is_ready = True
                self.events.record("proxy ready", proxy=proxy.slot, seconds=round(now() - proxy.since, 3))
                self.changes.fire()
            case "applied":
                proxy.applied_number = int(value.get("number", 0))
                self._offer(proxy)
                self.changes.fire()
            case "drained":
                proxy.has_drained(id)
                self.changes.fire()
            case "draining" | "casualties" as kind:
                self._reports.heard(proxy, id, kind, value)
            case "let go":
                proxy.has_let_go = True
                self.changes.fire()
            case "acquitted":
                pool, fingerprint = str(value.get("pool", "")), str(value.get("fingerprint", ""))
                self.truth.attribution.acquit(pool, fingerprint, int(value.get("crashes", 1)))
            case "observed":
                self.observed(id, str(value.get("outcome", "")))
            case "log":
                fields = {k: v for k, v in value.items() if k not in ("type", "level", "event")}
                fields["proxy"] = proxy.slot
                self.log(str(value.get("level", "info")), str(value.get("event", "")), fields)
