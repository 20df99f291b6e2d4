"""What one backend process and we say to each other while it lives: over its channel, and by sd_notify."""

import os
from collections.abc import Callable, Sequence
from typing import Any, Final

import trio

from balancer.channel import node
from balancer.channel.lines import MAX_LINE, Channel
from balancer.errors import ChannelClosed
from balancer.pool.backend import BackendId
from balancer.supervisor import spawn
from balancer.supervisor.clock import now
from balancer.supervisor.notify import NotifySocket
from balancer.supervisor.slot import Slot
from balancer.supervisor.surroundings import Surroundings

# The kernel closes the channel of a process that dies a little before it tells of the death.
_DEATH_TIME: Final = 0.5
_LONGEST_STATUS: Final = 200  # characters


class Conversation:
    """Both ways in; `said_ready` and `said_leaving` are set once it has said so. Made before its process is started.

    internal: gets what Node.js itself says, which is no message of the program; longest: bytes of a line to the process.
    """

    def __init__(
        self,
        slot: Slot,
        id: BackendId,  # noqa: A002
        around: Surroundings,
        internal: Callable[[dict[str, Any]], None] = lambda _: None,
        longest: int = MAX_LINE,
    ) -> None:
        self.said_ready = trio.Event()
        self.said_leaving = trio.Event()
        self.closed = trio.Event()  # by the process
        self.hung = trio.Event()  # says the process itself
        self.beat_at = 0.0  # CLOCK_MONOTONIC seconds of its last heartbeat
        self.leaving = ""  # why it is about to go
        self._internal = internal
        self._slot = slot
        self._id = id
        self._around = around
        self.spoke = False
        ours, self._theirs = spawn.socket_pair()
        self._channel = Channel(ours, max_sent=longest, on_garbage=self._count_garbage)
        self._notify = NotifySocket()

    @property
    def descriptor(self) -> int:
        """The process's end of the channel, to be inherited."""
        return self._theirs.fileno()

    @property
    def environment(self) -> dict[str, str]:
        """How the process finds both ways."""
        return {
            "NODE_CHANNEL_FD": str(self.descriptor),
            "NODE_CHANNEL_SERIALIZATION_MODE": "json",
            "NOTIFY_SOCKET": self._notify.address,
        }

    def begin(self) -> None:
        """The process has been started: others may write to it."""
        self._theirs.close()
        self._slot.says = ""
        self._around.post.join(self._id, self._slot, self._channel)

    def send(self, value: Any, descriptors: Sequence[int] = ()) -> bool:
        """Send it a JSON value, and descriptors with it; False if it was dropped."""
        return self._channel.send(value, descriptors)

    def fileno(self) -> int:
        """Our end of the channel."""
        return self._channel.fileno()

    def close(self) -> None:
        """Nothing more is said. More than once is harmless."""
        self._around.post.leave(self._id)
        self._theirs.close()
        self._channel.close()
        self._notify.close()

    async def run(self, user: str, exited: trio.Event) -> None:
        """Listen until cancelled. user: as whom the process runs, "" for us; exited: set when it is gone."""
        uid = spawn.uid_of(user)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._channel.run)
            nursery.start_soon(self._notify.listen, os.getuid() if uid is None else uid, self._hear_notify)
            try:
                while True:
                    self._hear(await self._channel.receive())
            except ChannelClosed:
                self._around.post.leave(self._id)
                self.closed.set()
            if self.spoke:
                with trio.move_on_after(_DEATH_TIME):
                    await exited.wait()
                if not exited.is_set():
                    self.leave("closed its channel")

    def _count_garbage(self) -> None:
        self._slot.messages["garbage"] += 1

    def _hear(self, value: Any) -> None:
        self.spoke = True
        try:
            if node.is_internal(value):
                self._internal(value)
                return
            self._slot.messages["received"] += 1
            self._obey(value)
        except (ValueError, TypeError, RecursionError) as error:
            # Whatever a backend may think of: nested too deep to be passed on, for one.
            self._around.debug("message", backend=self._slot.name, error=repr(error))

    def _obey(self, value: Any) -> None:
        post, pool = self._around.post, self._slot.pool
        kind = value.get("type") if isinstance(value, dict) else value
        match kind:
            case "ready":
                self.said_ready.set()
            case "stopping":
                self.leave("said that it is stopping")
            case "heartbeat":
                self._beat()
            case "broadcast" if isinstance(value, dict):
                post.broadcast(self._id, pool, value.get("data"))
            case "send" if isinstance(value, dict):
                post.pass_on(self._id, pool, value.get("to"), value.get("data"))
            case "reply" if isinstance(value, dict) and post.replied(self._id, value):
                pass
            case _:
                self._around.debug("message", backend=self._slot.name, value=repr(value)[:200])

    def _hear_notify(self, name: str, value: str) -> None:
        if (name, value) == ("READY", "1"):
            self.said_ready.set()
        elif (name, value) == ("STOPPING", "1"):
            self.leave("said that it is stopping")
        elif (name, value) == ("WATCHDOG", "1"):
            self._beat()
        elif (name, value) == ("WATCHDOG", "trigger"):
            self.hung.set()  # sd_notify(3): it knows itself that it is beyond help
        elif name == "STATUS":
            self._slot.says = value[:_LONGEST_STATUS]

    def _beat(self) -> None:
        self.beat_at = now()

    def leave(self, why: str) -> None:
        """It is about to go: drain it, and start another."""
        self.leaving = self.leaving or why
        self.said_leaving.set()
