"""The ways by which proxies pass accepted connections to backends (mode = "pass").

A door is our end of a backend's channel, of which each proxy gets a copy, and the line with which a connection goes through.
"""

from typing import Any, NamedTuple, Protocol

from balancer.pool.backend import BackendId


class Door(NamedTuple):
    """One backend's."""

    pool: str
    descriptor: int
    line: dict[str, Any]

    def message(self, id: BackendId) -> dict[str, Any]:  # noqa: A002
        """As a proxy is told; the descriptor goes with it."""
        return {"type": "door", "pool": self.pool, "backend": id.name, "generation": id.generation, "line": self.line}


class Doors(Protocol):
    """Who keeps them and tells the proxies."""

    def open(self, id: BackendId, pool: str, descriptor: int, line: dict[str, Any]) -> None:  # noqa: A002
        """Connections can be passed to this backend, once it takes requests."""
        ...

    def close(self, id: BackendId) -> None:  # noqa: A002
        """No longer. Harmless when there was none."""
        ...


class NoDoors:
    """Without proxies."""

    def open(self, id: BackendId, pool: str, descriptor: int, line: dict[str, Any]) -> None:  # noqa: A002
        """Nobody is there to pass anything."""

    def close(self, id: BackendId) -> None:  # noqa: A002
        """There was none."""
