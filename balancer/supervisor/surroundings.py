"""What the life of a backend needs around it; made once by `process.py`, doubled in tests."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from balancer.pool.backend import BackendId
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
    bug: Callable[[str, Exception], object]  # what nobody expected: (where, what)
    debug: Callable[..., object] = lambda *_, **__: None  # the log at debug level
