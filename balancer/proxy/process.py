"""A proxy process, from its start to its end: what the supervisor says on the channel, and what follows from it."""

import gc
import os
import resource
import socket
import sys
from typing import Any

import trio

from balancer.channel.lines import Channel
from balancer.errors import ChannelClosed, Fault, Reason, Side
from balancer.net.poller import Poller
from balancer.pool.snapshot import Snapshot
from balancer.proxy.casualties import casualties, held, told
from balancer.proxy.exchange import Exchange
from balancer.proxy.identity import become
from balancer.proxy.listener import Listener
from balancer.proxy.passing import Doors, Passer
from balancer.proxy.queue import Grants
from balancer.proxy.service import Service
from balancer.proxy.sweep import sweep
from balancer.proxy.view import View
from balancer.telemetry.access_log import AccessLog
from balancer.telemetry.table import Table

_LONGEST_LINE = 64 * 1024 * 1024  # a snapshot of thousands of backends
_LAST_SECOND = 1.0  # for responses already begun, when the supervisor wants us gone at once


class Proxy:
    """The process's one object."""

    def __init__(
        self, channel: Channel, table: Table, slot: int, sockets: dict[str, socket.socket], grants: Grants | None = None
    ) -> None:
        self._channel = channel
        self._sockets = sockets
        self._poller = Poller()
        self._grants = grants or Grants.alone(slot)
        self.view = View(table, slot, channel.send, self._grants)
        self.service = Service(self.view, self._poller, channel.send)
        self._listeners: dict[str, Listener | Passer] = {}
        # While it accepts: of listeners, of connections.
        self._nurseries: tuple[trio.Nursery, trio.Nursery] | None = None
        self._doors = Doors()
        self._accepting = trio.CancelScope()
        self._deadline = trio.CancelScope()
        self._stop_asked = trio.Event()
        self._access_setting = ("", "")

    async def run(self) -> None:
        """Serve until the supervisor says stop and the last exchange is done, or the supervisor is gone."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._channel.run, name="channel out")
            nursery.start_soon(self._listen_to_supervisor, nursery, name="channel in")
            nursery.start_soon(self._poller.run, name="poller")
            nursery.start_soon(self._grants.run, name="grants")
            await self._stop_asked.wait()
        if self.service.access is not None:
            self.service.access.flush()

    async def _serve(self, nursery: trio.Nursery) -> None:
        nursery.start_soon(sweep, self.service, name="sweep")
        with self._deadline:
            async with trio.open_nursery() as connections:
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        self._nurseries = accepting, connections
                        self._open_listeners()
                        _settle_memory()
                        self._channel.send({"type": "ready"})
                        # Also without a listener of its own: backends may accept themselves (mode = "shared").
                        await trio.sleep_forever()
                self._nurseries = None
                for listener in self._listeners.values():
                    listener.close()
        nursery.cancel_scope.cancel()

    def _open_listeners(self) -> None:
        """Accept on every socket whose listener is known by now: of one that a reload adds, either may come first."""
        if self._nurseries is not None:
            accepting, connections = self._nurseries
            for name in self._sockets.keys() & self.view.listeners.keys() - self._listeners.keys():
                listener = self._listeners[name] = self._listener(name, self._sockets[name])
                accepting.start_soon(listener.run, connections, name=f"listener {name}")

    def _listener(self, name: str, sock: socket.socket) -> Listener | Passer:
        if self.view.listeners[name].mode == "pass":
            return Passer(self.service, name, sock, self._doors)
        return Listener(self.service, name, sock)

    async def _listen_to_supervisor(self, nursery: trio.Nursery) -> None:
        is_serving = False
        try:
            while True:
                message = await self._channel.receive()
                kind = message.get("type")
                if kind == "snapshot":
                    self._apply(Snapshot.from_json(message))
                    self._channel.send({"type": "applied", "number": self.view.number})
                    if not is_serving:
                        is_serving = True
                        nursery.start_soon(self._serve, nursery, name="serve")
                elif kind == "tls":
                    for problem in self.service.security.apply(message):
                        self.service.log("error", problem)
                elif kind == "stop":
                    self._stop(self.view.picture.shutdown_timeout if is_serving else 0)
                elif kind == "stop_now":
                    self._stop(_LAST_SECOND if is_serving else 0)
                    self._let_go()
                elif kind == "exited":
                    self._hear_exit(message)
                elif kind == "listener":
                    self._sockets[message["name"]] = socket.socket(fileno=self._channel.descriptors.popleft())
                    self._open_listeners()
                elif kind == "door":
                    self._doors.open(message, self._channel.descriptors.popleft())
                elif kind == "door closed":
                    self._doors.close((message["pool"], message["backend"], message["generation"]))
                elif kind == "reopen":
                    if self.service.access is not None:
                        self.service.access.reopen()
                elif kind == "report":
                    self._report(message["backend"], message["generation"])
                if not is_serving and self._stop_asked.is_set():
                    nursery.cancel_scope.cancel()
        except ChannelClosed:
            # The supervisor is dead, and its backends with it: there is nobody left to forward to.
            self._stop_asked.set()
            nursery.cancel_scope.cancel()

    def _apply(self, snapshot: Snapshot) -> None:
        for upstream in self.view.apply(snapshot):
            upstream.close()
        self._doors.look()
        self._open_listeners()
        setting = (snapshot.proxy.access, snapshot.proxy.access_format)
        if setting != self._access_setting:
            self._access_setting = setting
            self._open_access_log(*setting)

    def _open_access_log(self, target: str, form: str) -> None:
        if self.service.access is not None:
            self.service.access.close()
            self.service.access = None
        if target != "off":
            self.service.access = AccessLog(target, form)
            if self.service.access.problem:
                self.service.log("error", self.service.access.problem)

    def _stop(self, seconds: float) -> None:
        """Take no new connection, end the idle ones, give the others so many seconds."""
        self._stop_asked.set()
        self.view.stopping = True
        self._accepting.cancel()
        self._deadline.deadline = min(self._deadline.deadline, trio.current_time() + seconds)
        for client in list(self.service.clients):
            # A request that has arrived in this very moment is still served, with `Connection: close`.
            if client.waits_since and not client.has_something_to_say():
                client.wire.interrupt(Fault(Side.CLIENT, Reason.CLIENT_GONE))

    def _let_go(self) -> None:
        """Every backend is about to be killed: end the requests that still wait for one, and say that they have been."""
        self.view.ending = True
        for client in self.service.clients:
            x, waits_on = client.exchange, client.wire.watcher
            if x is not None and not x.status and waits_on is not None:
                waits_on.interrupt(Fault(Side.BALANCER, Reason.STOPPING))
        self._channel.send({"type": "let go"})

    def _hear_exit(self, message: dict[str, Any]) -> None:
        """A backend's process has ended: say what it took with it, and let those who wonder know."""
        name, generation = message["backend"], message["generation"]
        at = message["at"]
        backend = self.view.find(name, generation)
        found = casualties(self._on(name, generation), backend.parted if backend is not None else (), at)
        if backend is not None:
            for fingerprint in {one.fingerprint for one in found.upgraded}:
                self.view.acquit(backend.pool, fingerprint)  # of earlier crashes: it has lived on since it was opened
            sent = [(one.fingerprint, one.sent_at) for one in found.suspects]
            in_flight = message.get("in_flight", 0) - found.counted
            self.view.exited(backend, at, message["own_doing"], sent, in_flight)
        self._channel.send(
            {"type": "casualties", "backend": name, "generation": generation}
            | {"count": len(found.suspects), "requests": told(found.suspects)}
            | {"upgraded_count": len(found.upgraded), "upgraded": told(found.upgraded)}
        )

    def _on(self, name: str, generation: int) -> list[Exchange]:
        """Requests in progress on a backend, the oldest first."""
        found = [c.exchange for c in self.service.clients if c.exchange is not None]
        on = [
            x for x in found if x.backend is not None and (x.backend.name, x.backend.generation) == (name, generation)
        ]
        return sorted(on, key=lambda x: x.started)

    def _report(self, name: str, generation: int) -> None:
        """Say which requests still hold up a drain, the oldest first."""
        waiting = self._on(name, generation)
        self._channel.send(
            {"type": "draining", "backend": name, "generation": generation}
            | {"count": len(waiting), "requests": told([held(x) for x in waiting])}
        )


def _settle_memory() -> None:
    # What is there now stays: leave it out of every collection, and collect rarely, because a pause shows in the p99.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 50, 100)


def _raise_descriptor_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _title(slot: int) -> None:
    try:
        from setproctitle import setproctitle
    except ImportError:
        return
    setproctitle(f"balancer: proxy {slot}")


def main(arguments: list[str] | None = None) -> None:
    """Entry of the process; see `balancer.proxy.__main__` for the arguments."""
    channel_fd, table_fd, shape, slot, grants, user, *listeners = arguments if arguments is not None else sys.argv[1:]
    sockets = {}
    for listener in listeners:
        name, _, fd = listener.rpartition("=")
        sockets[name] = socket.socket(fileno=int(fd))
    channel_socket = socket.socket(fileno=int(channel_fd))
    read_end, *write_ends = map(int, grants.split(","))
    ours = [
        channel_socket.fileno(),
        int(table_fd),
        read_end,
        *write_ends,
        *(sock.fileno() for sock in sockets.values()),
    ]
    for inherited in ours:
        os.set_inheritable(inherited, False)
    _raise_descriptor_limit()
    _title(int(slot))
    if user:
        become(user)

    async def start() -> None:
        channel = Channel(channel_socket, max_line=_LONGEST_LINE, max_queued=_LONGEST_LINE, takes_descriptors=True)
        table = Table.attach(int(table_fd), shape)
        await Proxy(channel, table, int(slot), sockets, Grants(int(slot), read_end, write_ends)).run()

    trio.run(start, restrict_keyboard_interrupt_to_checkpoints=True)
