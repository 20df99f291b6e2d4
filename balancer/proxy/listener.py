"""Accepts clients: one task per listening socket, one task per connection.

Above `max_connections` the connection that has been idle longest makes room; when none is idle, newcomers wait in the kernel's
queue. Out of descriptors it does the same, says so, and loses nothing that it has. What a connection must show or may not do before
its first request, the PROXY header and the limits of its listener, is seen to here.
"""

import errno
import resource
import socket
from collections.abc import Callable
from heapq import nsmallest
from math import inf
from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault, Reason, Side
from balancer.net.proxy_protocol import receive_header
from balancer.net.tls import TlsWire
from balancer.net.unsent import bound_accepted
from balancer.net.wire import Wire
from balancer.proxy.client import Client
from balancer.proxy.limits import Limits, is_within, networks
from balancer.proxy.service import Connected, Service
from balancer.telemetry.table import (
    CONNECTIONS,
    CONNECTIONS_TOTAL,
    ERRORS,
    HANDSHAKES_FAILED,
    HANDSHAKES_FULL,
    HANDSHAKES_RESUMED,
    PROXY_CONNECTIONS,
    REASON_OFFSET,
)

_RESERVED: Final = 128  # descriptors for all but connections: listeners, kept pipes, logs, libraries
_BURST: Final = 64  # connections accepted before other tasks get a turn
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_RETRY: Final = 0.1  # seconds until the next try when the kernel refuses; Go's and trio's own servers take 5 to 100 ms
_SILENCE: Final = 10.0  # seconds between two complaints of a kind
_EVICT_AT_ONCE: Final = 64  # idle ones looked up per search: a search goes over all connections
_SEARCH_AGAIN: Final = 0.05  # seconds after a search that found nobody
_SLOW_HEAD: Final = 1.0  # seconds; a head that has not come whole by then may make room for others


class Listener:
    """One listening socket of this proxy."""

    def __init__(self, service: Service, name: str, sock: socket.socket) -> None:
        self._service = service
        self._name = name
        self._sock = sock
        sock.setblocking(False)
        table, view = service.view.table, service.view
        row = view.listeners[name].row
        self._base = table.listener_base(view.proxy, row)
        self._proxy_base = table.proxy_base(view.proxy)
        self._is_unix = sock.family is socket.AF_UNIX
        self._evictable: list[tuple[float, Connected]] = []  # (since when, who), the oldest last
        self._complained: dict[str, float] = {}
        self._search_at = 0.0
        # Each client may need a connection to a backend too.
        self._most = max(1, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVED) // 2)
        if self._most < view.picture.max_connections:
            self._complain("the limit of open files allows fewer connections", at_most=str(self._most))
        if not self._is_unix:
            # Accepted sockets inherit it, which saves a system call for each of them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            bound_accepted(sock)

    async def run(self, nursery: trio.Nursery) -> None:
        """Accept until cancelled; connections run in `nursery`."""
        sock = self._sock
        while True:
            try:
                await trio.lowlevel.wait_readable(sock)
                for _ in range(_BURST):
                    if not await self._may_accept():
                        break
                    connection, address = sock.accept()
                    if self._is_full():
                        self._evict()
                    self._admit(connection, address, nursery.start_soon)
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                text = error.strerror or str(error)
                if error.errno not in _EXHAUSTED:
                    self._complain("cannot accept a connection", error=text)
                elif not self._evict():
                    self._complain("out of file descriptors or memory: new connections wait", error=text)
                await trio.sleep(_RETRY)

    def close(self) -> None:
        """Stop accepting; open connections are not touched."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def _admit(self, connection: socket.socket, address: "tuple[str, int] | str", start: Callable[..., None]) -> None:
        service = self._service
        try:
            connection.setblocking(False)
            kind = TlsWire if service.view.listeners[self._name].tls else Wire
            wire = kind(service.poller, connection, Side.CLIENT, Reason.CLIENT_GONE)
            wire.is_bounded = not self._is_unix
        except OSError:
            connection.close()
            raise
        ip = "" if self._is_unix else _plain(address[0])
        client = Client(service, wire, self._name, ip, self._is_trusted(ip))
        service.clients.add(client)  # here, so that the rest of a burst counts it
        start(self._serve, client)

    async def _serve(self, client: Client) -> None:
        service = self._service
        cells = service.cells
        cells[self._base + CONNECTIONS_TOTAL] += 1
        cells[self._base + CONNECTIONS] += 1
        cells[self._proxy_base + PROXY_CONNECTIONS] += 1
        limits: Limits | None = None
        try:
            if not service.view.listeners[self._name].proxy_protocol or await self._is_announced(client):
                limits = service.view.limits.get(self._name)
                if limits is not None:
                    limits.enter(client.address)
                    await self._serve_within(limits, client)
                elif client.wire.is_plain or await self._is_secured(client):
                    await client.run()
        finally:
            client.wire.close()
            if limits is not None:
                limits.leave(client.address)
            service.clients.discard(client)
            cells[self._base + CONNECTIONS] -= 1
            cells[self._proxy_base + PROXY_CONNECTIONS] -= 1
            service.room.set()

    async def _is_announced(self, client: Client) -> bool:
        """Take the PROXY header and what it says of the client; whether there was a good one."""
        client.waits_since = monotonic()
        peer = client.address
        try:
            announced = await receive_header(client.wire)
        except Fault as fault:
            if fault.reason is Reason.BAD_PROXY_HEADER:
                view = self._service.view
                row = view.row_of(None)
                self._service.cells[row + ERRORS + REASON_OFFSET[fault.reason]] += 1
                self._complain("a connection without a good PROXY header", peer=peer, error=fault.detail or "too late")
            return False
        if announced.address is not None:
            client.address = announced.address
            client.is_trusted = self._is_trusted(announced.address)
        if announced.is_tls:
            client.proto = b"https"
        return True

    async def _is_secured(self, client: Client) -> bool:
        """The TLS handshake; whether it came about. A request in plain HTTP is told."""
        service, view = self._service, self._service.view
        client.waits_since = monotonic()
        picture = view.listeners[self._name]
        outcome = HANDSHAKES_FAILED
        try:
            identity = await service.security.secure(client.wire, picture, client.waits_since)
            if identity is None:
                outcome = -1  # somebody has only looked whether the door is there
                return False
            client.identity = identity
            outcome = HANDSHAKES_RESUMED if client.wire.is_resumed else HANDSHAKES_FULL
            client.proto = b"https"
            client.hsts = picture.hsts
            return True
        except Fault as fault:
            if view.picture.log_level == "debug":
                said = {"listener": self._name, "client": client.address, "error": fault.detail}
                service.log("debug", "no TLS handshake", **said)
            await client.refuse_handshake(fault)
        finally:
            client.waits_since = 0.0
            if outcome >= 0:
                service.cells[self._base + outcome] += 1
        return False

    async def _serve_within(self, limits: Limits, client: Client) -> None:
        is_denied = limits.is_denied(client.address)
        excess = limits.excess(client.address)
        if excess > 1 and not is_denied:
            return  # beyond twice the limit it is a flood, and an answer would cost a place for a second
        if not client.wire.is_plain and not await self._is_secured(client):
            return
        if is_denied:
            await client.turn_away(Fault(Side.CLIENT, Reason.DENIED))
        elif excess:
            await client.turn_away(Fault(Side.CLIENT, Reason.TOO_MANY_CONNECTIONS))
        else:
            await client.run()

    def _is_trusted(self, ip: str) -> bool:
        trusted = self._service.view.listeners[self._name].trusted_proxies
        if not trusted:
            return False
        return is_within(ip, networks(trusted)) if ip else "unix:" in trusted

    async def _may_accept(self) -> bool:
        """Whether one more may be accepted now; waits for a connection to end when there are too many and all are busy."""
        if not self._is_full() or self._find_evictable() is not None:
            return True
        service = self._service
        service.room = trio.Event()
        # The deadline is there because an idle connection can appear without any ending.
        with trio.move_on_after(_RETRY):
            await service.room.wait()
        return False

    def _is_full(self) -> bool:
        service = self._service
        return len(service.clients) >= min(service.view.picture.max_connections, self._most)

    def _evict(self) -> bool:
        """End the connection that has been idle longest, else one whose head does not come; whether there was one."""
        client = self._find_evictable()
        if client is None:
            return False
        client.waits_since = 0.0
        client.started = inf  # it is on its way
        client.wire.interrupt(Fault(Side.CLIENT, Reason.CLIENT_GONE))
        return True

    def _find_evictable(self) -> Connected | None:
        now = monotonic()
        if not self._evictable and now >= self._search_at:
            clients = self._service.clients
            found = nsmallest(_EVICT_AT_ONCE, filter(_is_idle, clients), key=_idle_since)
            if not found:
                slow = [client for client in clients if _is_reading(client) and client.started < now - _SLOW_HEAD]
                found = nsmallest(_EVICT_AT_ONCE, slow, key=_idle_since)
            self._evictable = [(_idle_since(client), client) for client in reversed(found)]
            self._search_at = now if found else now + _SEARCH_AGAIN
        while self._evictable:
            since, client = self._evictable[-1]
            # One that has been busy since is not the oldest any more; one whose request has just come is not idle.
            if (
                client.wire.fd >= 0
                and _idle_since(client) == since
                and not (_is_idle(client) and client.has_something_to_say())
            ):
                return client
            self._evictable.pop()
        return None

    def _complain(self, event: str, **fields: str) -> None:
        now = monotonic()
        if now - self._complained.get(event, -inf) > _SILENCE:
            self._complained[event] = now
            self._service.log("warning", event, listener=self._name, **fields)


def _is_idle(client: Connected) -> bool:
    return client.waits_since > 0


def _idle_since(client: Connected) -> float:
    """Since when nothing whole has come from it; 0 while it is served."""
    return client.waits_since or (client.started if _is_reading(client) else 0.0)


def _is_reading(client: Connected) -> bool:
    """Whether some of a head has come, and not all of it."""
    return client.exchange is None and 0 < client.started < inf


def _plain(ip: str) -> str:
    """An address as text; an IPv4 client of an IPv6 listener is an IPv4 client."""
    return ip.removeprefix("::ffff:").partition("%")[0]
