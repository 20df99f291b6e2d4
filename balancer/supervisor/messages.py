"""The channel between backends: who hears what is broadcast or sent, and how much was."""

from typing import Any

from balancer.channel.lines import Channel
from balancer.pool.backend import BackendId
from balancer.supervisor.slot import Slot


class Post:
    """Every live channel, by backend; only live ones, so nothing is ever sent to the dead."""

    def __init__(self) -> None:
        self._open: dict[BackendId, tuple[Slot, Channel]] = {}

    def join(self, id: BackendId, slot: Slot, channel: Channel) -> None:  # noqa: A002
        """This backend can be written to."""
        self._open[id] = slot, channel

    def leave(self, id: BackendId) -> None:  # noqa: A002
        """Its channel is closed."""
        self._open.pop(id, None)

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

    def _send(self, slot: Slot, channel: Channel, value: Any) -> bool:
        taken = channel.send(value)
        slot.messages["sent" if taken else "dropped"] += 1
        return taken
