"""A balancer of nothing: operations that answer what they were told to, for the API, the client and the command line."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

from balancer.admin.api import DEFAULT_LIMITS, Limits, serve
from balancer.admin.operations import NotFound, OperationFailed
from balancer.admin.sockets import ControlSocket, open_admin
from balancer.telemetry.events import Events
from balancer.telemetry.logs import Logs

BACKEND = {
    "name": "web-0",
    "pool": "web",
    "address": "127.0.0.1:9000",
    "pid": 4711,
    "generation": 3,
    "phase": "running",
    "health": "healthy",
    "intent": "serve",
    "takes_requests": True,
    "weight": 1,
    "in_flight": 2,
    "requests_total": 1234567,
    "restarts": 1,
    "uptime_seconds": 93784.2,
    "memory_bytes": 52428800,
    "cpu_percent": 12.5,
}
STATUS: dict[str, Any] = {
    "version": "0.1.0",
    "uptime_seconds": 12.0,
    "config": "/etc/cluster.toml",
    "listeners": [{"name": "web", "address": "127.0.0.1:8080"}],
    "proxies": [{"pid": 4710, "connections": 5}],
    "pools": [{"name": "web", "policy": "weighted-round-robin", "backends": [BACKEND]}],
}
DONE = {"event": "done", "ok": True, "text": "reload complete"}


class FakeOperations:
    """`Operations` over plain attributes."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.steps: list[dict[str, Any] | Exception] = [{"event": "ready", "text": "web-0 is ready"}, DONE]
        self.ring = Events()
        self.output = Logs()
        self.stopped = trio.Event()
        self.planned: dict[str, Any] = {"event": "done", "ok": True, "live": [], "backends": {}, "restart": []}
        self.did: list[tuple[Any, ...]] = []
        self.status_value: Any = STATUS

    def status(self) -> dict[str, Any]:
        if isinstance(self.status_value, Exception):
            raise self.status_value
        found: dict[str, Any] = self.status_value
        return found

    def unready(self) -> list[str]:
        return self.reasons

    async def metrics(self, openmetrics: bool) -> tuple[str, bytes]:
        return ("application/openmetrics-text" if openmetrics else "text/plain"), b"balancer_up 1\n"

    async def reload(self) -> AsyncIterator[dict[str, Any]]:
        for step in self.steps:
            await trio.lowlevel.checkpoint()
            if isinstance(step, Exception):
                raise step
            yield step

    def _did(self, *what: Any) -> AsyncIterator[dict[str, Any]]:
        if "gone" in what:
            raise NotFound("there is no 'gone'")
        self.did.append(what)
        return self.reload()

    async def plan(self, config: str) -> AsyncIterator[dict[str, Any]]:
        self.did.append(("plan", config))
        yield self.planned

    def restart(self, pool: str, backend: str) -> AsyncIterator[dict[str, Any]]:
        return self._did("restart", pool, backend)

    def scale(self, pool: str, count: int | str) -> AsyncIterator[dict[str, Any]]:
        return self._did("scale", pool, count)

    def drain(self, backend: str) -> AsyncIterator[dict[str, Any]]:
        return self._did("drain", backend)

    def undrain(self, backend: str) -> AsyncIterator[dict[str, Any]]:
        return self._did("undrain", backend)

    def weigh(self, backend: str, weight: int) -> AsyncIterator[dict[str, Any]]:
        return self._did("weigh", backend, weight)

    def send(self, pool: str, backend: str, value: Any) -> int:
        self._did("send", pool, backend, value)
        return 3

    def ask(self, pool: str, backend: str, value: Any, timeout: float) -> AsyncIterator[dict[str, Any]]:
        return self._did("ask", pool, backend, value, timeout)

    def logs(self, pool: str, backend: str, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        if pool == "gone":
            raise NotFound("there is no pool 'gone'")
        return self._logs(pool, backend, last, follow)

    async def _logs(self, pool: str, backend: str, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        if not follow:
            for line in self.output.last(last, pool, backend):
                yield line.to_json()
            return
        async for line in self.output.follow(last, pool, backend):
            yield line.to_json()

    async def events(self, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        if not follow:
            for event in self.ring.last(last):
                yield event.to_json()
            return
        async for event in self.ring.follow(last):
            yield event.to_json()

    def stop(self) -> None:
        if self.stopped.is_set():
            raise OperationFailed("it is stopping already")
        self.stopped.set()


@asynccontextmanager
async def answering(operations: FakeOperations, **options: Any) -> AsyncIterator[int]:
    """The API on a loopback port; gives the port. `options` are those of `serve`."""
    (listener,) = open_admin("127.0.0.1", 0)
    port: int = listener.socket.getsockname()[1]
    crashes: list[Exception] = []
    options = {"address": "127.0.0.1", "on_crash": crashes.append, **options}
    async with trio.open_nursery() as nursery:
        await nursery.start(
            lambda task_status: serve(operations, listeners=[listener], task_status=task_status, **options)
        )
        yield port
        nursery.cancel_scope.cancel()
    assert crashes == []


@asynccontextmanager
async def controlled(operations: FakeOperations, path: Path, limits: Limits = DEFAULT_LIMITS) -> AsyncIterator[None]:
    """The API on a control socket at this path."""
    control = ControlSocket(path)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(lambda: serve(operations, listeners=[control.listener], local=True, limits=limits))
            yield
            nursery.cancel_scope.cancel()
    finally:
        control.close()
