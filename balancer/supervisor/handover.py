"""How one process comes to the connections of its clients: `handover` and `mode` of its pool.

Made before the process is started, closed after its end. `Handover` itself is handover = "port", where the process binds the
port that it is told; the others differ from it. In the modes "shared" and "pass" no proxy stands between the clients and the
process: nobody can ask one of several processes behind one socket how it is, so it counts as well for as long as it lives.
"""

import os
import socket
from typing import Any

from balancer.channel import node
from balancer.channel.lines import MAX_LINE, WHOLE_LINE
from balancer.errors import BalancerError
from balancer.supervisor.conversation import Conversation
from balancer.supervisor.generation import Generation

# Node.js programs that start others: a channel that reaches them ends there.
_TAKE_THE_CHANNEL = ("npm", "npx", "yarn", "pnpm", "nodemon", "pm2", "corepack")


class NoListener(BalancerError):
    """No listener leads to a pool whose backends are to accept themselves."""


class Handover:
    """The process binds `port` on `host` itself."""

    is_probed = True  # whether it can be asked how it is
    needs_channel = False  # whether it cannot serve without its channel
    longest_line = MAX_LINE  # bytes, of what is sent to it
    is_going = False  # whether it ends by itself, without a signal

    def __init__(self, owner: Generation) -> None:
        """Raises BalancerError when what it needs cannot be had."""
        self.owner = owner
        self.environment: dict[str, str] = {}
        self.sockets: list[socket.socket] = []  # the process finds them from descriptor 3 on
        self.listening: socket.socket | None = (
            None  # in whose queue a connection waits until the process has accepted it
        )
        self.host = owner.launch.host
        self.port = 0
        self._taken = 0
        self.talk: Conversation | None = None
        self._find_place()

    def begin(self, talk: Conversation) -> None:
        """The process has been started."""
        self.talk = talk
        program = os.path.basename(self.owner.launch.command[0])
        if self.needs_channel and program in _TAKE_THE_CHANNEL:
            advice = f"{program} keeps the channel for itself: name node and the program's file in the command"
            self.record("channel taken", by=program, advice=advice)

    def hear(self, value: dict[str, Any]) -> None:
        """One of Node's internal messages; an acknowledgement, as a rule."""

    async def arrive(self) -> None:
        """Until the process has what it needs to be asked how it is."""

    def missing(self) -> str:
        """For what `arrive` still waits; "" for nothing."""
        return ""

    def dismiss(self) -> bool:
        """Ask it to finish what it has and go; False: there is no way to."""
        return False

    def close(self) -> None:
        """The process is gone."""
        self.owner.around.doors.close(self.owner.backend.id)
        if self.listening is not None:
            self.listening.close()
        if self._taken:
            self.owner.around.ports.give_back(self._taken)

    def record(self, kind: str, **detail: Any) -> None:
        """An event of this backend."""
        id = self.owner.backend.id  # noqa: A001
        self.owner.around.events.record(kind, self.owner.slot.pool, id.name, id.generation, **detail)

    def _find_place(self) -> None:
        launch = self.owner.launch
        self.port = self._taken = self.owner.around.ports.take(launch.host, launch.ports)

    def _inherit(self, sockets: list[socket.socket], names: list[str]) -> None:
        # sd_listen_fds(3); LISTEN_PID is set once there is one.
        self.sockets = sockets
        self.environment = {"LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": ":".join(names)}


class OwnSocket(Handover):
    """handover = "socket": it inherits a socket that listens already, so what comes before it accepts waits instead of failing."""

    def _find_place(self) -> None:
        launch = self.owner.launch
        self.listening = self.owner.around.ports.listen(launch.host, launch.ports)
        self.port = self._taken = self.listening.getsockname()[1]
        self._inherit([self.listening], [self.owner.slot.pool])


class SharedSockets(Handover):
    """mode = "shared": it inherits the listeners' own sockets and accepts by itself."""

    is_probed = False

    def _find_place(self) -> None:
        shared = self.owner.around.shared(self.owner.slot.pool)
        if not shared:
            raise NoListener(f"no listener leads to pool {self.owner.slot.pool}")
        self.host, self.port = place_of(shared[0][1])
        self._inherit([sock for _, sock in shared], [name for name, _ in shared])


class PassedConnections(Handover):
    """mode = "pass": a proxy accepts, and passes each connection down the channel."""

    is_probed = False
    needs_channel = True
    # The proxies write to the channel too: each line has to go whole.
    longest_line = WHOLE_LINE

    def begin(self, talk: Conversation) -> None:
        """It can be passed connections from now on; those that come before it reads wait in its channel."""
        super().begin(talk)
        backend = self.owner.backend
        self.owner.around.doors.open(backend.id, backend.pool, talk.fileno(), node.connection())

    def _find_place(self) -> None:
        self.host, self.port = self.owner.around.place(self.owner.slot.pool)


def place_of(sock: socket.socket) -> tuple[str, int]:
    """Where a socket is bound: address and port, or ("unix:/path", 0)."""
    name = sock.getsockname()
    return (f"unix:{name}", 0) if sock.family is socket.AF_UNIX else (name[0], name[1])
