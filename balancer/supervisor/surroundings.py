"""What the life of a backend needs around it; made once by `process.py`, doubled in tests."""

import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from balancer.pool.backend import BackendId
from balancer.supervisor.attribution import OutOfMemory
from balancer.supervisor.doors import Doors, NoDoors
from balancer.supervisor.forensics import Forensics
from balancer.supervisor.messages import Post
from balancer.supervisor.output import LineSink
from balancer.supervisor.ports import Ports
from balancer.supervisor.truth import Truth
from balancer.telemetry.events import Events


@dataclass(frozen=True, slots=True)
class Surroundings:
    """The truth, and the doors to everything else that a life touches."""

    truth: Truth
    events: Events
    sink: LineSink
    ports: Ports
    post: Post
    # Returns once no proxy has a request or connection on it, or no proxy is left.
    drained: Callable[[BackendId], Awaitable[None]]
    # Who is still on it: [{"method", "path", "seconds"}].
    holders: Callable[[BackendId], Awaitable[list[dict[str, Any]]]]
    # The process of this backend has ended: (id, CLOCK_MONOTONIC seconds, whether by its own doing, requests in flight).
    exited: Callable[[BackendId, float, bool, int], None]
    # What it took with it, told after `exited`: {"count", "requests": […]} of each proxy.
    casualties: Callable[[BackendId], Awaitable[list[dict[str, Any]]]]
    bug: Callable[[str, Exception], object]  # what nobody expected: (where, what)
    forensics: Forensics = field(default_factory=lambda: Forensics("", lambda *_: ()))
    oom: OutOfMemory = field(default_factory=OutOfMemory)
    debug: Callable[..., object] = lambda *_, **__: None  # the log at debug level
    # Of a pool with mode "shared": its listeners' names and sockets.
    shared: Callable[[str], Sequence[tuple[str, socket.socket]]] = lambda _: ()
    # Of a pool with mode "shared" or "pass": where its clients connect, as address and port.
    place: Callable[[str], tuple[str, int]] = lambda _: ("", 0)
    doors: Doors = field(default_factory=NoDoors)
