"""Accepts clients: one task per listening socket, one task per connection.

Above `max_connections` the connection that has been idle longest makes room; when none is idle, newcomers wait in the kernel's
queue. Out of descriptors it does the same, says so, and loses nothing that it has.
"""

import errno
import socket
from collections.abc import Callable
from heapq import nsmallest
from ipaddress import ip_address, ip_network
from typing import Final

import trio

from balancer.errors import Fault, Reason, Side
from balancer.net.wire import Wire
from balancer.proxy.client import Client
from balancer.proxy.service import Service
from balancer.telemetry.table import CONNECTIONS, CONNECTIONS_TOTAL, PROXY_CONNECTIONS

_BURST: Final = 64  # connections accepted before other tasks get a turn
_EXHAUSTED: Final = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM))
_RETRY: Final = 0.1  # seconds until the next try when the kernel refuses; Go's and trio's own servers take 5 to 100 ms
_EVICT_AT_ONCE: Final = 64  # idle ones looked up per search: a search goes over all connections


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
        self._evictable: list[Client] = []
        self._complained = -1e9
        if not self._is_unix:
            # Accepted sockets inherit it, which saves a system call for each of them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    async def run(self, nursery: trio.Nursery) -> None:
        """Accept until cancelled; connections run in `nursery`."""
        sock = self._sock
        while True:
            try:
                await trio.lowlevel.wait_readable(sock)
                for _ in range(_BURST):
                    if not await self._has_room():
                        break
                    connection, address = sock.accept()
                    self._admit(connection, address, nursery.start_soon)
            except (BlockingIOError, ConnectionAbortedError):
                continue
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    self._complain("cannot accept a connection", error)
                elif not self._evict():
                    self._complain("out of file descriptors or memory: new connections wait", error)
                await trio.sleep(_RETRY)

    def close(self) -> None:
        """Stop accepting; open connections are not touched."""
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def _admit(self, connection: socket.socket, address: "tuple[str, int] | str", start: Callable[..., None]) -> None:
        service = self._service
        try:
            connection.setblocking(False)
            wire = Wire(service.poller, connection, Side.CLIENT, Reason.CLIENT_GONE)
        except OSError:
            connection.close()
            raise
        ip = "" if self._is_unix else _plain(address[0])
        trusted = service.view.listeners[self._name].trusted_proxies
        is_trusted = bool(trusted) and _is_within(ip, trusted)
        start(self._serve, Client(service, wire, self._name, ip, is_trusted))

    async def _serve(self, client: Client) -> None:
        service = self._service
        cells = service.cells
        cells[self._base + CONNECTIONS_TOTAL] += 1
        cells[self._base + CONNECTIONS] += 1
        cells[self._proxy_base + PROXY_CONNECTIONS] += 1
        service.clients.add(client)
        try:
            await client.run()
        finally:
            client.wire.close()
            service.clients.discard(client)
            cells[self._base + CONNECTIONS] -= 1
            cells[self._proxy_base + PROXY_CONNECTIONS] -= 1
            service.room.set()

    async def _has_room(self) -> bool:
        """Whether one more may be accepted now; waits for a connection to end when all are busy."""
        service = self._service
        if len(service.clients) < service.view.picture.max_connections:
            return True
        if self._evict():
            return True
        service.room = trio.Event()
        # The deadline is there because an idle connection can appear without any ending.
        with trio.move_on_after(_RETRY):
            await service.room.wait()
        return False

    def _evict(self) -> bool:
        """End the connection that has been idle longest; whether there was one."""
        if not self._evictable:
            idle = [client for client in self._service.clients if client.waits_since]
            self._evictable = nsmallest(_EVICT_AT_ONCE, idle, key=lambda client: client.waits_since)
            self._evictable.reverse()
        while self._evictable:
            client = self._evictable.pop()
            if client.waits_since and client.wire.fd >= 0:
                client.waits_since = 0.0
                client.wire.interrupt(Fault(Side.CLIENT, Reason.CLIENT_GONE))
                return True
        return False

    def _complain(self, event: str, error: OSError) -> None:
        now = trio.current_time()
        if now - self._complained > 10:
            self._complained = now
            self._service.log("warning", event, listener=self._name, error=error.strerror or str(error))


def _plain(ip: str) -> str:
    """An address as text; an IPv4 client of an IPv6 listener is an IPv4 client."""
    return ip.removeprefix("::ffff:").partition("%")[0]


def _is_within(ip: str, networks: tuple[str, ...]) -> bool:
    if not ip:
        return "unix:" in networks
    address = ip_address(ip)
    return any(address in ip_network(network, strict=False) for network in networks)
