"""One ordered list of what happened to processes and traffic: recorded by the supervisor, read by `balancer events`.

Bounded: the oldest go. Each has a number, so that a reader sees when it missed some.
"""

import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from balancer.telemetry.ring import Ring
from balancer.telemetry.wording import worded

KEPT = 2000  # a 100-backend reload is some 600 events; about 1 MB at most

LOST = "lost"  # the kind of the event that tells a slow follower how many it missed


@dataclass(frozen=True, slots=True)
class Event:
    """One thing that happened. `kind` is a word ("ready", "crashed", "reload started"); `detail` is JSON-able."""

    number: int
    time: float  # Unix seconds
    kind: str
    pool: str = ""
    backend: str = ""
    generation: int = 0
    detail: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """{"number", "time", "event", "pool", "backend", "generation", …detail, "text"}; keys without a value are left out."""
        named: dict[str, Any] = {"pool": self.pool, "backend": self.backend, "generation": self.generation}
        return {
            **self.detail,
            "number": self.number,
            "time": round(self.time, 6),
            "event": self.kind,
            **{name: value for name, value in named.items() if value},
            "text": self.text,
        }

    @property
    def text(self) -> str:
        """One line for people: "web-3 (generation 7) crashed: signal=SIGSEGV"."""
        subject = self.backend or (f"pool {self.pool}" if self.pool else "")
        if self.generation:
            subject += f" (generation {self.generation})"
        line = f"{subject} {self.kind}" if subject else self.kind
        detail = " ".join(
            f"{name}={_plain(value)}" for name, value in self.detail.items() if value not in ("", None, [])
        )
        return f"{line}: {detail}" if detail else line


class Events:
    """The list. `on_record` is called with each event as it is recorded (the log)."""

    def __init__(self, kept: int = KEPT, on_record: Callable[[Event], None] | None = None) -> None:
        self._ring: Ring[Event] = Ring(kept)
        self._on_record = on_record

    def record(self, kind: str, pool: str = "", backend: str = "", generation: int = 0, **detail: Any) -> Event:
        """Something happened now. Never blocks."""
        event = Event(self._ring.next, time.time(), kind, pool, backend, generation, detail)
        self._ring.append(event)
        if self._on_record is not None:
            self._on_record(event)
        return event

    def last(self, count: int) -> list[Event]:
        """At most so many of the newest, oldest first."""
        return self._ring.last(count)

    async def follow(self, last: int = 0) -> AsyncIterator[Event]:
        """The last so many, then each as it happens, for ever. One of kind "lost" says how many this follower missed."""
        start = self._ring.next - len(self._ring.last(last))
        async for missed, events in self._ring.follow(start):
            if missed:
                yield Event(events[0].number, time.time(), LOST, detail={"count": missed})
            for event in events:
                yield event


def _plain(value: Any) -> str:
    """A value of a detail on one line: quoted where a space or a control character would blur it."""
    text = worded(value)
    return text if text.isprintable() and " " not in text else repr(text)
