"""What can be asked of a running balancer, as the admin API sees it. The supervisor implements it.

Results are plain JSON-able values. An operation that did not come about raises `OperationFailed` with a sentence for the
user; one that names a thing which is not there raises `NotFound`; unusable arguments raise `BadArguments`.
"""

from collections.abc import AsyncIterator
from typing import Any, Protocol

from balancer.errors import BalancerError


class OperationFailed(BalancerError):
    """Tried, and it did not come about: HTTP 409, exit code 1."""


class NotFound(BalancerError):
    """No such pool, backend or operation: HTTP 404, exit code 1."""


class BadArguments(BalancerError):
    """The request makes no sense: HTTP 400, exit code 2."""


class Operations(Protocol):
    """Everything that the API offers."""

    def status(self) -> dict[str, Any]:
        """What answers `GET /api/v1/status`: what `balancer status --json` prints."""
        ...

    def unready(self) -> list[str]:
        """Why the balancer is not ready, a line per routed pool without a backend that takes requests; empty: ready."""
        ...

    async def metrics(self, openmetrics: bool) -> tuple[str, bytes]:
        """(content type, body) of `/metrics`."""
        ...

    def reload(self) -> AsyncIterator[dict[str, Any]]:
        """Read the file again and replace every backend.

        The reload goes on when the iterator is closed: whoever watched it may leave. Raises OperationFailed.
        Yields progress: {"event": "…", …, "text": "a line for people"} and last {"event": "done", "ok": bool, "text": …}.
        """
        ...

    def plan(self, config: str) -> AsyncIterator[dict[str, Any]]:
        """What a reload of that file ("" for the balancer's own) would do; nothing is changed.

        Yields one value: {"event": "done", "ok": True, "live": [{"key", "old", "new"}], "backends": {pool: […]}, "restart": […]},
        or for a file that is wrong {"event": "done", "ok": False, "text": every problem, a line each}.
        """
        ...

    def restart(self, pool: str, backend: str) -> AsyncIterator[dict[str, Any]]:
        """Replace the processes of a pool, or of one backend ("" for either: all, or whichever has it), without a lost request.

        This and what follows raise NotFound and BadArguments at once; what they yield is as of `reload`, and goes on like it.
        """
        ...

    def scale(self, pool: str, count: int | str) -> AsyncIterator[dict[str, Any]]:
        """Give the pool so many backends until the next reload; "auto" or "max": one per usable CPU."""
        ...

    def drain(self, backend: str) -> AsyncIterator[dict[str, Any]]:
        """Take it out of rotation and wait until nothing is on it; its process keeps running."""
        ...

    def undrain(self, backend: str) -> AsyncIterator[dict[str, Any]]:
        """Put it back into rotation and wait until it takes requests."""
        ...

    def weigh(self, backend: str, weight: int) -> AsyncIterator[dict[str, Any]]:
        """Give it another weight until the next reload."""
        ...

    def send(self, pool: str, backend: str, value: Any) -> int:
        """Send a JSON value to one backend, or with "" to all of the pool; how many took it. Raises OperationFailed: none."""
        ...

    def ask(self, pool: str, backend: str, value: Any, timeout: float) -> AsyncIterator[dict[str, Any]]:
        """As `send`, and wait for a reply of each, at most so many seconds. Raises NotFound, BadArguments, OperationFailed at once.

        Yields {"event": "reply", "backend", "generation", "data": what it says, or "error"} for each, {"event": "no reply", …, "text"}
        for one that does not answer in time or goes away, and last {"event": "done", "ok": bool, "text": …}.
        """
        ...

    def logs(self, pool: str, backend: str, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """The last lines of backends' output ("" selects all), then new ones as they come when `follow`.

        Raises NotFound at once, not with the first line.
        Yields {"time": unix seconds, "pool", "backend", "generation", "stream": "stdout"|"stderr", "line"}.
        """
        ...

    def events(self, last: int, follow: bool) -> AsyncIterator[dict[str, Any]]:
        """What happened, oldest first, then as it happens when `follow`. Yields `telemetry.events.Event.to_json()`."""
        ...

    def stop(self) -> None:
        """As SIGTERM; returns at once."""
        ...
