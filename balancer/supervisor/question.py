"""A question to backends over their channels, and what comes of it: a reply of each, or why there is none."""

import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

import trio

from balancer.pool.backend import BackendId
from balancer.supervisor.waiting import Changes


class Question:
    """Asked of several at once. Each of them ends once: it replies, goes away, or the time is up.

    number: comes back with each reply; data: any JSON value; timeout: seconds from now on.
    """

    def __init__(self, number: int, data: Any, timeout: float) -> None:
        self.message = {"type": "ask", "id": number, "data": data}
        self._timeout = timeout
        self._limit = trio.current_time() + timeout
        self._waiting: set[BackendId] = set()
        self._ends: deque[dict[str, Any]] = deque()
        self._failures: list[str] = []
        self._asked = 0
        self._changes = Changes()

    def expect(self, id: BackendId) -> None:  # noqa: A002
        """It was sent to this backend."""
        self._asked += 1
        self._waiting.add(id)

    def replied(self, id: BackendId, value: dict[str, Any]) -> bool:  # noqa: A002
        """This backend has said {"type": "reply", …}; False: nothing was to be expected from it, or no longer."""
        if id not in self._waiting:
            return False
        if "error" in value:
            error = value["error"]
            words = error if isinstance(error, str) else json.dumps(error)
            self._end(id, {"error": error}, f"replied with an error: {words}")
        else:
            self._end(id, {"data": value.get("data")})
        return True

    def lose(self, id: BackendId, why: str) -> None:  # noqa: A002
        """No reply will come from this one; why: "went away …". Nothing if it has ended already."""
        if id in self._waiting:
            self._end(id, {}, why)

    async def ends(self) -> AsyncIterator[dict[str, Any]]:
        """Each as it comes: {"event": "reply", "backend", "generation", "data" or "error"}, or {"event": "no reply", …, "text"}.

        Last {"event": "done", "ok": whether all replied and none with an error, "text": what is to be said of those that did not}.
        """
        while self._waiting or self._ends:
            while self._ends:
                yield self._ends.popleft()
            if self._waiting:
                with trio.move_on_at(self._limit) as patience:
                    await self._changes.wait()
                if patience.cancelled_caught:
                    for id in sorted(self._waiting):  # noqa: A001
                        self.lose(id, f"did not reply within {self._timeout:g} s")
        text = "\n".join(self._failures) or f"{self._asked} {'backend' if self._asked == 1 else 'backends'} replied"
        yield {"event": "done", "ok": not self._failures, "text": text}

    def _end(self, id: BackendId, fields: dict[str, Any], failure: str = "") -> None:  # noqa: A002
        self._waiting.discard(id)
        end = {"event": "reply" if fields else "no reply", "backend": id.name, "generation": id.generation, **fields}
        if failure:
            end["text"] = f"{id.name} {failure}"
            self._failures.append(end["text"])
        self._ends.append(end)
        self._changes.fire()
