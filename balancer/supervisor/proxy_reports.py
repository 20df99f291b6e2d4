"""What proxies are asked about one backend, and their answers: who holds up a drain, what a crash took with it."""

from collections.abc import Callable, Iterable
from typing import Any, Protocol

from balancer.channel.lines import Channel
from balancer.pool.backend import BackendId
from balancer.supervisor.waiting import Changes


class Asked(Protocol):
    """A proxy."""

    channel: Channel
    answers: "dict[tuple[str, BackendId], dict[str, Any] | None]"  # by the kind of the answer; None: none yet

    def holds(self, id: BackendId) -> bool:  # noqa: A002
        """Whether it may have a request or a connection on this backend."""
        ...


class ProxyReports:
    """Asks every proxy that holds something on a backend; one that dies owes no answer."""

    def __init__(self, live: Callable[[], Iterable[Asked]], changes: Changes) -> None:
        """live: the proxies there are; changes: fires when one of them dies."""
        self._live = live
        self._changes = changes

    def ask(self, id: BackendId, kind: str, question: dict[str, Any]) -> None:  # noqa: A002
        """Send it at once; kind: of the answers, by which `answers` finds them."""
        for proxy in self._live():
            if proxy.holds(id):
                proxy.answers[kind, id] = None
                proxy.channel.send({**question, "backend": id.name, "generation": id.generation})

    def heard(self, proxy: Asked, id: BackendId, kind: str, answer: dict[str, Any]) -> None:  # noqa: A002
        """A proxy has answered; what nobody asked is nothing."""
        if (kind, id) in proxy.answers:
            proxy.answers[kind, id] = answer
            self._changes.fire()

    async def answers(self, id: BackendId, kind: str) -> list[dict[str, Any]]:  # noqa: A002
        """Of all that were asked and live; the caller sets the limit."""
        key = kind, id
        try:
            await self._changes.until(lambda: all(p.answers.get(key, {}) is not None for p in self._live()))
        finally:
            found = [proxy.answers.pop(key, None) for proxy in self._live()]
        return [answer for answer in found if answer is not None]
