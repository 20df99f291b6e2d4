"""mode = "pass": connections are accepted here and passed on whole, each to the next backend; what is said on them we never see.

A backend's end is its door: a copy of the supervisor's end of its channel, written to with one line for each connection and the
connection's descriptor (SCM_RIGHTS). Several processes write to it, so a line goes at once and whole, or not at all.
"""

import errno
import json
import socket
from collections.abc import Iterable
from typing import Any, Final

import trio

from balancer.channel.descriptors import send
from balancer.pool.selection import SmoothRoundRobin
from balancer.proxy.backend import Backend
from balancer.proxy.service import Service
from balancer.telemetry.table import CONNECTIONS_NEW, CONNECTIONS_TOTAL

_BURST: Final = 64  # connections passed before other tasks get a turn
_RETRY: Final = 0.1  # seconds until the next try when the kernel refuses or no backend reads
# Nothing was written, and may be later: no room in the channel, or too many descriptors of ours under way (unix(7)).
_FULL: Final = frozenset((errno.EAGAIN, errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM))

Id = tuple[str, str, int]  # pool, slot, generation


class Door:
    """The way to one backend."""

    def __init__(self, sock: socket.socket, line: bytes) -> None:
        self._sock = sock
        self._line = line

    def put(self, connection: socket.socket) -> bool:
        """Pass it on; False: no room now. Raises OSError when the backend has closed its channel."""
        try:
            send(self._sock, self._line, [connection.fileno()], socket.MSG_DONTWAIT)
            return True
        except OSError as error:
            if error.errno in _FULL:
                return False
            raise

    def close(self) -> None:
        """The backend's channel itself is the supervisor's."""
        self._sock.close()


class Doors:
    """All that are open, by backend."""

    def __init__(self) -> None:
        self._doors: dict[Id, Door] = {}
        self.changed = trio.Event()

    def open(self, message: dict[str, Any], descriptor: int) -> None:
        """As the supervisor says it."""
        id = message["pool"], message["backend"], message["generation"]  # noqa: A001
        line = json.dumps(message["line"], separators=(",", ":")).encode() + b"\n"
        self.close(id)
        self._doors[id] = Door(socket.socket(fileno=descriptor), line)
        self._fire()

    def close(self, id: Id) -> None:  # noqa: A002
        """That backend gets nothing more."""
        door = self._doors.pop(id, None)
        if door is not None:
            door.close()

    def of(self, backend: Backend) -> Door | None:
        """The way to this one; None when there is none, or none yet."""
        return self._doors.get((backend.pool.name, backend.name, backend.generation))

    def look(self) -> None:
        """A snapshot has come: whoever waits for a backend should look again."""
        if self._doors:
            self._fire()

    def _fire(self) -> None:
        event, self.changed = self.changed, trio.Event()
        event.set()


class Passer:
    """One listening socket whose connections are passed on."""

    def __init__(self, service: Service, name: str, sock: socket.socket, doors: Doors) -> None:
        self._service = service
        self._name = name
        self._sock = sock
        self._doors = doors
        self._policy: SmoothRoundRobin[Backend] = SmoothRoundRobin()
        self._offered: list[tuple[Backend, int]] = []
        self._complained = -1e9
        view = service.view
        self._base = view.table.listener_base(view.proxy, view.listeners[name].row)
        sock.setblocking(False)

    async def run(self, nursery: trio.Nursery) -> None:
        """Accept and pass on until cancelled. While nobody takes connections they wait in the kernel's queue."""
        while True:
            changed = self._doors.changed
            if not self._able():
                await changed.wait()
                continue
            try:
                await trio.lowlevel.wait_readable(self._sock)
                for _ in range(_BURST):
                    connection, _ = self._sock.accept()
                    with connection:
                        connection.setblocking(False)  # Node.js takes it as it is, and would stand still in write()
                        self._service.cells[self._base + CONNECTIONS_TOTAL] += 1
                        await self._pass(connection)
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                self._complain("cannot accept a connection", error.strerror or str(error))
                await trio.sleep(_RETRY)

    def close(self) -> None:
        """Stop accepting."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    async def _pass(self, connection: socket.socket) -> None:
        while True:
            changed = self._doors.changed
            if self._put(connection):
                return
            self._complain("connections wait", "no backend takes them from its channel")
            with trio.move_on_after(_RETRY):
                await changed.wait()

    def _put(self, connection: socket.socket) -> bool:
        """Give it to the next backend that has room; False: none has."""
        tried: list[Backend] = []
        able = self._able()
        while len(tried) < len(able):
            backend = self._policy.choose(tried)
            if backend is None:
                return False
            tried.append(backend)
            door = self._doors.of(backend)
            try:
                if door is not None and door.put(connection):
                    self._service.cells[backend.base + CONNECTIONS_NEW] += 1
                    return True
            except OSError:
                # It has closed its channel: it is about to go.
                self._doors.close((backend.pool.name, backend.name, backend.generation))
        return False

    def _able(self) -> list[Backend]:
        """Who takes connections now."""
        view = self._service.view
        pool = view.pools.get(view.listeners[self._name].pool)
        backends: Iterable[Backend] = pool.backends if pool is not None else ()
        able = [b for b in backends if b.takes_requests and not b.draining and b.weight and self._doors.of(b)]
        able = [b for b in able if not b.backup] or able
        offered = [(b, b.weight) for b in able]
        if offered != self._offered:
            self._offered = offered
            self._policy.offer(able)
        return able

    def _complain(self, event: str, error: str) -> None:
        now = trio.current_time()
        if now - self._complained > 10:
            self._complained = now
            self._service.log("warning", event, listener=self._name, error=error)
