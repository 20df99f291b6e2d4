"""A proxy in the test's own process, with a supervisor's end of its channel, raw clients and scripted backends.

    async with front(Origin()) as proxy:
        async with proxy.client() as client:
            await client.send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert (await client.response()).status == 200

Leaving the block checks that nothing is left: no gauge above 0, no request that was not counted.
"""

import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio
import trio.testing

from balancer.channel.lines import Channel
from balancer.errors import ChannelClosed, Reason
from balancer.pool.snapshot import (
    BackendPicture,
    ListenerPicture,
    PoolPicture,
    ProxyPicture,
    RoutePicture,
    Snapshot,
)
from balancer.proxy import process
from balancer.telemetry import table as cells
from balancer.telemetry.table import Table
from tests.proxy.ends import PATIENCE, End, Message, Origin

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

PROXY = ProxyPicture(
    header_timeout=2, idle_timeout=5, body_timeout=2, max_header_size=32 * 1024, max_headers=100, max_body_size=0,
    max_connections=8192, shutdown_timeout=3, server_header="pass", request_id_header="X-Request-ID",
    access="off", access_format="combined", log_level="info",
)  # fmt: skip
POOL = PoolPicture(
    name="web", row=1, policy="weighted-round-robin", hash_on="client-ip", sticky_cookie="", connect_timeout=1,
    response_timeout=2, retries=2, concurrency=0, queue=100, queue_timeout=2, keep_alive=64, keep_alive_timeout=4,
    slow_start=0, pass_host=True, expects=False, retry_after=0,
)  # fmt: skip


def backend(number: int, port: int, **changes: Any) -> BackendPicture:
    """One backend's picture: web-0 in row 0, and so on. An address elsewhere by default: nothing is ever suspected."""
    picture = BackendPicture(
        name=f"web-{number}", generation=1, host="127.0.0.1", port=port, row=number, weight=1, backup=False,
        takes_requests=True, draining=False, since=0,
    )  # fmt: skip
    return replace(picture, **changes)


class Front:
    """One proxy. told: what it has said on the channel; snapshot: what it was last given; listener: its only one, "web"."""

    def __init__(self, origins: tuple[Origin, ...], table: Table) -> None:
        self.origins = origins
        self.table = table
        self.told: list[dict[str, Any]] = []
        self.snapshot: Snapshot
        self.proxy: process.Proxy
        self.is_running = True
        self.address: tuple[str, int] = ("", 0)
        self._changed = trio.Event()
        self._channel: Channel
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None]) -> None:
        """The process's life, without the process."""
        sock = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = sock.getsockname()
        ours, theirs = socket.socketpair()
        self._channel = Channel(ours)
        self.proxy = process.Proxy(Channel(theirs, takes_descriptors=True), self.table, 0, {"web": sock})
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._channel.run)
            nursery.start_soon(self._listen)
            self._nursery = nursery
            task_status.started()
            await self.proxy.run()
            self.is_running = False
            self._tell()
            nursery.cancel_scope.cancel()
        self._channel.close()
        theirs.close()

    def close(self) -> None:
        """Give back what a process would by ending."""
        sockets, poller, grants = self.proxy._sockets, self.proxy._poller, self.proxy._grants
        for wire in list(poller.wires.values()):
            wire.close()
        for sock in sockets.values():
            sock.close()
        poller.close()
        self.proxy.service.pipes.close()
        for fd in {grants._read_end, *grants._write_ends, self.table.fd}:
            os.close(fd)

    async def _listen(self) -> None:
        try:
            while True:
                self.told.append(await self._channel.receive())
                self._tell()
        except ChannelClosed:
            pass

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()

    def say(self, kind: str, **more: Any) -> None:
        """Send a message as the supervisor."""
        assert self._channel.send({"type": kind} | more)

    def pass_listener(self, name: str, sock: socket.socket) -> None:
        """Give it one more listening socket."""
        assert self._channel.send({"type": "listener", "name": name}, [sock.fileno()])

    def hang_up(self) -> None:
        """Be a supervisor that has died."""
        self._channel.close()

    async def until(self, holds: Callable[["Front"], bool], seconds: float = PATIENCE) -> None:
        """Wait until something is true of what was told."""
        with trio.fail_after(seconds):
            while not holds(self):
                await self._changed.wait()

    def heard(self, kind: str) -> list[dict[str, Any]]:
        """What was told of that type."""
        return [message for message in self.told if message["type"] == kind]

    async def apply(
        self,
        *,
        backends: tuple[BackendPicture, ...] | None = None,
        proxy: dict[str, Any] | None = None,
        pool: dict[str, Any] | None = None,
        **more: Any,
    ) -> None:
        """Send the present snapshot with these changes, and wait until it is applied."""
        now = self.snapshot
        changes: dict[str, Any] = {"number": now.number + 1, "proxy": replace(now.proxy, **(proxy or {}))} | more
        if "pools" not in changes:
            first, *others = now.pools
            changed = replace(first, **(pool or {}))
            changes["pools"] = (replace(changed, backends=first.backends if backends is None else backends), *others)
        self.give(replace(now, **changes))
        number = self.snapshot.number
        await self.until(lambda front: any(message["number"] == number for message in front.heard("applied")))

    def give(self, snapshot: Snapshot) -> None:
        """Send it."""
        self.snapshot = snapshot
        assert self._channel.send(snapshot.to_json())

    @asynccontextmanager
    async def client(self, *, receive_buffer: int = 0) -> AsyncIterator[End]:
        """A connection to it; receive_buffer: bytes of the client's kernel buffer, 0 for the default."""
        sock = trio.socket.socket()
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        await sock.connect(self.address)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        async with trio.SocketStream(sock) as stream:
            yield End(stream)

    async def ask(self, request: bytes = GET) -> Message:
        """One request on a connection of its own; the answer."""
        async with self.client() as client:
            await client.send(request)
            return await client.response(request.split(b" ", 1)[0].decode())

    async def quiet(self) -> None:
        """Wait until the proxy has done all that it can do about what has reached it; only for what takes no sweep."""
        # Loopback delivers within the send; two rounds, because the poller wakes the task that reads.
        for _ in range(2):
            await trio.testing.wait_all_tasks_blocked(0.002)

    async def add_origin(self, origin: Origin) -> None:
        """Start one more backend, which no snapshot knows yet."""
        assert self._nursery is not None
        await self._nursery.start(origin.run)

    async def add_pool(self, name: str, origin: Origin) -> None:
        """One more pool, with one backend."""
        await self.add_origin(origin)
        row = len(self.snapshot.pools) + 1
        picture = replace(POOL, name=name, row=row, backends=(backend(7, origin.port, name=f"{name}-0"),))
        await self.apply(pools=(*self.snapshot.pools, picture))

    async def idle(self) -> None:
        """Wait until no client is connected."""
        service = self.proxy.service
        with trio.fail_after(PATIENCE):
            while service.clients:
                service.room = trio.Event()
                await service.room.wait()

    def requests(self) -> dict[tuple[str, str], int]:
        """(method, code) → count, over pools and backends."""
        found: dict[tuple[str, str], int] = {}
        rows = [self.table.backend_sums(row) for row in range(self.table.backends)]
        rows += [self.table.pool_sums(row) for row in range(self.table.pools)]
        for row in rows:
            for method, code, count in cells.requests_of(row):
                found[method, code] = found.get((method, code), 0) + count
        return found

    def codes(self) -> dict[str, int]:
        """Code → count."""
        found: dict[str, int] = {}
        for (_, code), count in self.requests().items():
            found[code] = found.get(code, 0) + count
        return found

    def errors(self) -> dict[str, int]:
        """Reason → count, over the pool and what reached no pool."""
        rows = [self.table.pool_sums(row) for row in range(self.table.pools)]
        sums = [sum(row[cells.ERRORS + offset] for row in rows) for offset in range(len(cells.REASONS))]
        return {reason.value: count for reason, count in zip(cells.REASONS, sums, strict=True) if count}

    def retries(self) -> int:
        """Further attempts, whatever the reason."""
        rows = [self.table.pool_sums(row) for row in range(self.table.pools)]
        return sum(sum(row[cells.RETRIES : cells.RETRIES + len(Reason)]) for row in rows)

    def cell(self, row: int, column: int) -> int:
        """A cell of a backend's row."""
        return self.table.backend_sums(row)[column]

    def waiting(self) -> int:
        """Requests in the pool's line, as the table says."""
        return self.table.pool_sums(1)[cells.QUEUE_LENGTH]

    def gauges(self) -> dict[str, int]:
        """Every gauge that is not 0."""
        named = {"connections": self.table.listener_sums(0)[cells.CONNECTIONS]}
        named["proxy connections"] = self.table.cells[self.table.proxy_base(0) + cells.PROXY_CONNECTIONS]
        for row in range(self.table.backends):
            named[f"in flight {row}"] = self.table.in_flight(row)
        for row in range(self.table.pools):
            named[f"queue {row}"] = self.table.pool_sums(row)[cells.QUEUE_LENGTH]
        return {name: value for name, value in named.items() if value}

    def bugs(self) -> list[str]:
        """Tracebacks of what nobody expected."""
        return [message["traceback"] for message in self.heard("log") if "traceback" in message]


@asynccontextmanager
async def front(
    *origins: Origin,
    proxy: dict[str, Any] | None = None,
    pool: dict[str, Any] | None = None,
    listener: dict[str, Any] | None = None,
    routes: tuple[RoutePicture, ...] = (),
    backends: tuple[BackendPicture, ...] | None = None,
    tls: dict[str, Any] | None = None,
) -> AsyncIterator[Front]:
    """A proxy in front of these backends, ready; the dictionaries change PROXY, POOL and the listener's picture.

    tls: what it is told about TLS first: {"listeners": …, "backends": …}.
    """
    found = Front(origins, Table.create(1, listeners=1, pools=4, backends=8))
    async with trio.open_nursery() as nursery:
        for origin in origins:
            await nursery.start(origin.run)
        if backends is None:
            backends = tuple(backend(number, origin.port) for number, origin in enumerate(origins))
        await nursery.start(found.run)
        if tls is not None:
            found.say("tls", **tls)
        found.give(
            Snapshot(
                1,
                replace(PROXY, **(proxy or {})),
                (replace(ListenerPicture("web", 0, "web"), **(listener or {})),),
                routes,
                (replace(POOL, **(pool or {}), backends=backends),),
            )
        )
        await found.until(lambda front: bool(front.heard("ready")))
        yield found
        if found.is_running:
            await found.idle()
        await trio.testing.wait_all_tasks_blocked()
        assert not found.bugs(), "\n".join(found.bugs())
        assert not found.gauges()
        assert not found.table.cells[cells.FAULTS]
        nursery.cancel_scope.cancel()
    found.close()
