"""What a piece of work that somebody asked for says while it goes on; the last thing it says is {"event": "done", "ok": …}."""

from collections.abc import AsyncIterator
from typing import Any

from balancer.supervisor.waiting import Changes


class Progress:
    """Kept from the beginning, so that whoever comes later hears everything; it does not matter who listens."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []
        self.known: dict[str, Any] = {}  # told with the last word
        self.is_done = False
        self._changes = Changes()

    def say(self, event: str, text: str, **fields: Any) -> None:
        """One step, a line for people and whatever programs may want to know."""
        self.said.append({"event": event, "text": text, **fields})
        self._changes.fire()

    def finish(self, ok: bool, text: str, **fields: Any) -> None:
        """The last word; only the first one counts."""
        if not self.is_done:
            self.is_done = True
            self.say("done", text, ok=ok, **self.known, **fields)

    async def follow(self) -> AsyncIterator[dict[str, Any]]:
        """Everything it says, from the beginning to the last word."""
        seen = 0
        while True:
            while seen < len(self.said):
                yield self.said[seen]
                seen += 1
            if self.is_done:
                return
            await self._changes.wait()
