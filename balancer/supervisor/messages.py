"""The channel between backends: who hears what is broadcast or sent, and how much was."""

from typing import Any
from weakref import WeakValueDictionary

from balancer.channel.lines import Channel
from balancer.pool.backend import BackendId
from balancer.supervisor.question import Question
from balancer.supervisor.slot import Slot


class Post:
    """Every live channel, by backend; only live ones, so nothing is ever sent to the dead."""

    def __init__(self) -> None:
        self._open: dict[BackendId, tuple[Slot, Channel]] = {}
        # As long as somebody waits for the replies.
        self._questions: WeakValueDictionary[int, Question] = WeakValueDictionary()
        self._asked = 0

    def join(self, id: BackendId, slot: Slot, channel: Channel) -> None:  # noqa: A002
        """This backend can be written to."""
        self._open[id] = slot, channel

    def leave(self, id: BackendId) -> None:  # noqa: A002
        """Its channel is closed."""
        self._open.pop(id, None)
        for question in list(self._questions.values()):
            question.lose(id, "went away before it replied")

    def broadcast(self, sender: BackendId, pool: str, data: Any) -> int:
        """To every other backend of the pool, as {"type": "broadcast", "from", "data"}; how many took it."""
        value = {"type": "broadcast", "from": sender.name, "data": data}
        return sum(
            self._send(slot, channel, value)
            for id, (slot, channel) in list(self._open.items())  # noqa: A001
            if slot.pool == pool and id != sender
        )

    def pass_on(self, sender: BackendId, pool: str, to: object, data: Any) -> int:
        """To one slot of the pool, to each of its processes, as {"type": "message", "from", "data"}; how many took it."""
        return self.send(pool, to, {"type": "message", "from": sender.name, "data": data})

    def send(self, pool: str, to: object, value: Any) -> int:
        """Any JSON value, as it is, to one slot ("" for all) of a pool; how many took it."""
        return sum(
            self._send(slot, channel, value)
            for slot, channel in list(self._open.values())
            if slot.pool == pool and to in (slot.name, "")
        )

    def ask(self, pool: str, to: object, data: Any, timeout: float) -> Question | None:
        """Any JSON value as {"type": "ask", "id", "data"}, to one slot ("" for all) of a pool; None when none took it.

        timeout: seconds for the replies, {"type": "reply", "id", "data"}.
        """
        self._asked += 1
        question = Question(self._asked, data, timeout)
        taken = 0
        for id, (slot, channel) in list(self._open.items()):  # noqa: A001
            if slot.pool == pool and to in (slot.name, ""):
                question.expect(id)
                if self._send(slot, channel, question.message):
                    taken += 1
                else:
                    question.lose(id, "takes no messages")
        self._questions[self._asked] = question
        return question if taken else None

    def replied(self, id: BackendId, value: dict[str, Any]) -> bool:  # noqa: A002
        """A backend has said {"type": "reply", …}; False: nobody waits for that."""
        number = value.get("id")
        question = self._questions.get(number) if isinstance(number, int) else None
        return question is not None and question.replied(id, value)

    def _send(self, slot: Slot, channel: Channel, value: Any) -> bool:
        taken = channel.send(value)
        slot.messages["sent" if taken else "dropped"] += 1
        return taken
