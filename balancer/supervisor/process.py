"""The supervisor process: from settings to exit code.

Order matters for how fast the first request is answered: bind, spawn proxies and backends, and only then import and open
what people look at (admin API, metrics).
"""

import gc
import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial

import trio

from balancer.admin.sockets import ControlSocket, open_admin
from balancer.errors import BalancerError
from balancer.pool.backend import BackendId
from balancer.settings.model import Settings
from balancer.supervisor.clock import now
from balancer.supervisor.eject import Ejector
from balancer.supervisor.ending import end_quarantines
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.listeners import ListenerSockets
from balancer.supervisor.material import Material
from balancer.supervisor.messages import Post
from balancer.supervisor.names import Names
from balancer.supervisor.notify import tell_service_manager
from balancer.supervisor.ports import Ports
from balancer.supervisor.proxies import Proxies
from balancer.supervisor.record import Record
from balancer.supervisor.recycle import Recycler
from balancer.supervisor.reload import Reloads
from balancer.supervisor.signals import handle_signals
from balancer.supervisor.spawn import raise_descriptor_limit
from balancer.supervisor.surroundings import Surroundings
from balancer.supervisor.truth import Truth
from balancer.supervisor.turns import Turns
from balancer.supervisor.verbs import Verbs
from balancer.supervisor.wanted import wanted_slots
from balancer.supervisor.watch import Watches
from balancer.telemetry.ledger import Ledger
from balancer.telemetry.table import Table

EX_OK, EX_FAILED = 0, 1
Greeting = Callable[[Callable[[str], object]], None]


async def supervise(settings: Settings, *, on_started: Greeting | None = None) -> int:
    """Run until told to stop. Returns the exit code; what prevents a start is one line on stderr and code 1.

    on_started: called once, when every pool that is routed to takes requests, with what writes a line to the console:
        a write to stderr itself could block the loop.
    """
    supervisor = None
    try:
        supervisor = Supervisor(settings)
        await supervisor.run(on_started)
    except BalancerError as error:
        sys.stderr.write(f"balancer: {error}\n")
        return EX_FAILED
    finally:
        if supervisor is not None:
            supervisor.close()
    return EX_OK


class Supervisor:
    """Everything that lives as long as the balancer does, made and unmade in one place."""

    def __init__(self, settings: Settings) -> None:
        """Bind what clients and people talk to. Raises BalancerError when something cannot be had."""
        raise_descriptor_limit()
        self.settings = settings
        self.closers: list[Callable[[], object]] = []
        try:
            self.control = ControlSocket(settings.path.parent / settings.control_socket)
            self.closers.append(self.control.close)
            shared = {name for name in settings.listen if settings.mode(name) == "shared"}
            self.sockets = ListenerSockets(settings.listen, settings.proxy.process_count, shared)
            self.closers.append(self.sockets.close)
            admin = settings.admin.address
            self.admin = open_admin(admin.host, admin.port) if admin is not None else []
        except BaseException:
            self.close()
            raise
        self.record = Record(settings, self.closers)
        self.console, self.log, self.logs = self.record.console, self.record.log, self.record.logs
        self.events = self.record.events
        table = _table(settings)
        self.truth = Truth(settings, Ledger(table))
        self.post = Post()
        self.proxies = Proxies(
            self.truth,
            table,
            self.sockets,
            events=self.events,
            sink=self.logs,
            observed=self._observed,
            log=self.log.write,
            bug=self._bug,
            first_word=lambda: self.material.message(),
        )
        self.material = Material(self.truth, self.events, self.proxies.tell, self.log.write)
        self.fleet: Fleet
        self.names: Names
        self.verbs: Verbs
        self.recycler: Recycler
        self.ejector = Ejector(self.truth, self.events)
        self.turns = Turns(self.events, self._give_way, self._bug)
        self.reloads = Reloads(self)
        self.started = now()
        self.stop_asked = trio.Event()
        self.stop_now_asked = trio.Event()

    async def run(self, on_started: Greeting | None) -> None:
        """Start everything, wait until told to stop, stop everything."""
        self.material.load(self.settings)
        async with trio.open_nursery() as everything:
            self.verbs = Verbs(self, everything)
            await everything.start(handle_signals, self._operations(), self._unavailable)
            self.fleet = Fleet(self._surroundings(), everything)
            self.names = Names(self.fleet)
            self.recycler = Recycler(self.fleet, lambda: self.turns.is_idle)
            await everything.start(self.proxies.run, name="proxies")
            for name, pool in self.settings.pool.items():
                for wanted in wanted_slots(pool):
                    self.fleet.add(name, *wanted)
            everything.start_soon(self.names.run, name="names")
            everything.start_soon(self._serve_admin, name="admin")
            everything.start_soon(self.ejector.run, name="ejector")
            everything.start_soon(self.material.watch, name="certificates")
            everything.start_soon(end_quarantines, self.truth, self.events, name="quarantines")
            reloading = trio.CancelScope()
            everything.start_soon(self._run_reloads, reloading, name="reloads")
            everything.start_soon(self._announce, on_started, name="announce")
            await self.stop_asked.wait()
            reloading.cancel()
            tell_service_manager(STOPPING="1")
            self.events.record("stopping")
            await self._take_leave()
            self.names.stop()
            await self._stop()
            everything.cancel_scope.cancel()
        self.events.record("stopped")

    def close(self) -> None:
        """Give back what was bound and opened."""
        while self.closers:
            self.closers.pop()()

    def _observed(self, id: BackendId, outcome: str) -> None:  # noqa: A002
        if outcome == "failing":
            self.ejector.failing(id)
        else:
            self.fleet.suspect(id)

    def unready(self) -> list[str]:
        """Why the balancer is not ready, a line each."""
        waiting = [slot for slot in range(len(self.proxies.replaced)) if not self.proxies.is_ready(slot)]
        lines = ["the balancer stops"] if self.stop_asked.is_set() else []
        return lines + [f"proxy {slot} is starting" for slot in waiting] + self.truth.unready()

    def stop(self) -> None:
        """Stop gracefully; asked again, at once."""
        if self.stop_asked.is_set():
            self.stop_now_asked.set()
        self.stop_asked.set()

    def stop_now(self) -> None:
        """Stop at once."""
        self.stop_now_asked.set()
        self.stop_asked.set()

    async def _take_leave(self) -> None:
        """Serve on for `proxy.shutdown_delay`, and say by every probe that it is the end."""
        self.truth.is_leaving = True
        self.truth.touch()
        with trio.move_on_after(self.truth.settings.proxy.shutdown_delay):
            await self.stop_now_asked.wait()

    async def _stop(self) -> None:
        async with trio.open_nursery() as nursery:

            async def gracefully() -> None:
                await self.proxies.stop(self.truth.settings.proxy.shutdown_timeout)
                await self.fleet.stop()
                nursery.cancel_scope.cancel()

            if not self.stop_now_asked.is_set():
                nursery.start_soon(gracefully)
            await self.stop_now_asked.wait()
            nursery.cancel_scope.cancel()
        if self.stop_now_asked.is_set():
            await self.proxies.stop_now(self.fleet.kill)

    async def _run_reloads(self, scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.turns.run, name="turns")
                nursery.start_soon(self.recycler.run, name="recycler")
                watches = Watches(self.truth, self.events, lambda pool: self.verbs.restart(pool))
                nursery.start_soon(watches.run, name="watches")

    async def _serve_admin(self) -> None:
        try:
            await self._admin_servers()
        except Exception as error:
            # Traffic comes first: without its admin address the balancer goes on.
            self._bug("the admin API broke off", error)

    async def _admin_servers(self) -> None:
        from balancer.admin.api import serve
        from balancer.supervisor.operations import SupervisorOperations

        settings, operations = self.settings, SupervisorOperations(self)
        address = settings.admin.address
        token = ""
        if settings.admin.token_file:
            token = (await trio.Path(settings.admin.token_file).read_text()).strip()
        async with trio.open_nursery() as nursery:
            said = partial(serve, operations, on_crash=lambda bug: self.log.error("admin API", exc_info=bug))
            nursery.start_soon(partial(said, listeners=[self.control.listener], local=True))
            if self.admin and address is not None:
                nursery.start_soon(partial(said, listeners=self.admin, token=token, address=address.host))

    async def _announce(self, on_started: Greeting | None) -> None:
        tell_service_manager(STATUS="starting")
        await self.truth.changes.until(lambda: not self.truth.unready())
        await self.proxies.changes.until(
            lambda: len(self.proxies.live) > 0 and all(proxy.is_ready for proxy in self.proxies.live.values())
        )
        tell_service_manager(READY="1", STATUS="serving", MAINPID=str(os.getpid()))
        self.console.release()
        self.events.record("serving")
        if on_started is not None:
            on_started(self.console.write)
        _settle_memory()

    def _surroundings(self) -> Surroundings:
        return Surroundings(
            truth=self.truth,
            events=self.events,
            sink=self.logs,
            ports=Ports(),
            post=self.post,
            drained=self.proxies.drained,
            holders=self.proxies.holders,
            exited=self.proxies.exited,
            casualties=self.proxies.casualties,
            forensics=self.record.forensics,
            bug=self._bug,
            debug=self.log.debug,
            shared=lambda pool: [(name, self.sockets.shared(name)) for name in self._listeners_of(pool)],
            place=lambda pool: next((self.sockets.place(name) for name in self._listeners_of(pool)), ("", 0)),
            doors=self.proxies,
        )

    def _listeners_of(self, pool: str) -> list[str]:
        settings = self.truth.settings
        return [name for name in settings.listen if settings.default_pool(name) == pool]

    def _operations(self) -> Mapping[signal.Signals, Callable[[], None]]:
        return {
            signal.SIGTERM: self.stop,
            signal.SIGINT: self.stop,
            signal.SIGQUIT: self.stop_now,
            signal.SIGHUP: self._reload,
            signal.SIGUSR1: self._reopen,
            signal.SIGTTIN: lambda: self.verbs.scale_all(1),
            signal.SIGTTOU: lambda: self.verbs.scale_all(-1),
        }

    def _give_way(self) -> None:
        self.recycler.give_way()

    def _reload(self) -> None:
        self.reloads.begin()

    def _reopen(self) -> None:
        self.record.give_access_log()
        self.proxies.reopen()
        self.log.info("log files reopened")

    def _unavailable(self, name: str) -> None:
        self.log.warning(f"{name} is not available in this version")

    def _bug(self, where: str, error: Exception) -> None:
        self.log.error(where, exc_info=error)


def _settle_memory() -> None:
    # What a start has made stays: a collection that looks at all of it would stop the loop for 50 ms, again and again.
    gc.collect()
    gc.freeze()


def _table(settings: Settings) -> Table:
    """With room for what reloads may add; a row that is never touched takes no memory."""
    backends = sum(pool.backend_count for pool in settings.pool.values())
    return Table.create(
        settings.proxy.process_count,
        listeners=max(64, len(settings.listen)),
        pools=max(128, 4 * len(settings.pool)),
        backends=max(2048, 8 * backends),
    )
