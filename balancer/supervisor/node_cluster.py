"""handover = "node-cluster": we play the primary of Node's `cluster` module for one process.

So a program that calls `listen(3000)` itself, made for `pm2 start -i 4` or for no cluster at all, runs several times unchanged.
Its first `listen` is the backend; each further one gets a socket of its own on the same address and is said in the log, as no
proxy leads there. What cannot be given (a path, datagrams) is refused and said.
"""

import errno
import secrets
import socket
from itertools import count
from typing import Any, Final

import trio

from balancer.channel import node
from balancer.channel.lines import MAX_LINE, WHOLE_LINE
from balancer.supervisor.conversation import Conversation
from balancer.supervisor.generation import Generation
from balancer.supervisor.handover import Handover, place_of

_IDS: Final = count(1)
# One of the 4 million addresses from 127.64.0.0 on for each socket: programs that listen on the same port are told apart
# by it. The first at random: another balancer on this machine counts too.
_ADDRESSES: Final = count(secrets.randbelow(1 << 22))
_TRIES: Final = 5


class NodeCluster(Handover):
    """See the module; `cluster.worker.id` is new with each process, as under Node's own primary."""

    needs_channel = True

    def __init__(self, owner: Generation) -> None:
        super().__init__(owner)
        self.environment = {"NODE_UNIQUE_ID": str(next(_IDS))}
        mode = owner.launch.mode
        self.is_probed = mode == "proxy"
        self.longest_line = WHOLE_LINE if mode == "pass" else MAX_LINE
        self._first: node.Listen | None = None
        self._listening = trio.Event()

    def _find_place(self) -> None:
        # Where it will listen it says itself; the environment gets what is expected there.
        if self.owner.launch.mode == "proxy":
            super()._find_place()
        else:
            self.host, self.port = self.owner.around.place(self.owner.slot.pool)

    async def arrive(self) -> None:
        """Until its first `listen` has succeeded."""
        await self._listening.wait()

    def missing(self) -> str:
        """A program that another one started has no way to us, see `Handover.begin`."""
        return "" if self._listening.is_set() else "it has not called listen(), or has no channel to do it by"

    def dismiss(self) -> bool:
        """It closes its servers, finishes what they have, and then its channel: the `disconnect` of Node's primary."""
        if self.is_probed or self.talk is None:
            return False
        return self.talk.send(node.DISCONNECT)

    def hear(self, value: dict[str, Any]) -> None:
        """What its cluster module says."""
        message = node.cluster_message(value)
        if self.talk is None or message is None:
            return
        if isinstance(message, node.Listen):
            self._listen(self.talk, message)
            return
        match message.name:
            case "online":
                self.record("online")
            case "listening":
                self._is_listening(self.talk, message.port)
            case "close" if self._first is not None and message.key == self._first.key:
                self._first = None
                self.owner.around.doors.close(self.owner.backend.id)
                if self._listening.is_set():
                    self.is_going = True
                    self.talk.leave("closed its server")
            case "exitedAfterDisconnect":
                self.is_going = True
                self.talk.leave("disconnected from its cluster")
                self.talk.send(node.acknowledgement(message))
            case "" if not message.accepted:
                self.record("connection refused", reason="its server was closed, or had maxConnections")

    def _listen(self, talk: Conversation, listen: node.Listen) -> None:
        what = f"port {listen.port}" if listen.is_tcp else listen.address or "something else than a port"
        if not listen.is_tcp:
            self._refuse(talk, listen, what, "only TCP ports can be had", errno.ENOTSUP)
            return
        is_first = self._first is None and not self._listening.is_set()
        mode = self.owner.launch.mode
        try:
            if is_first and mode == "pass":
                host, port = self.owner.around.place(self.owner.slot.pool)
                talk.send(node.connections_answer(listen, host, listen.port or port))
            elif is_first and mode == "shared":
                self._share(talk, listen)
            else:
                self._bind(talk, listen, is_first)
        except OSError as error:
            self._refuse(talk, listen, what, error.strerror or str(error), error.errno or errno.EIO)
        else:
            if is_first:
                self._first = listen

    def _refuse(self, talk: Conversation, listen: node.Listen, what: str, why: str, code: int) -> None:
        self.record("listen refused", what=what, reason=why)
        talk.send(node.refusal(listen, code))

    def _bind(self, talk: Conversation, listen: node.Listen, is_first: bool) -> None:
        """A socket on an address of its own; the program itself makes it listen."""
        with _bound(listen.port) as sock:
            host, port = place_of(sock)
            if is_first:
                self.owner.backend.host, self.owner.backend.port = host, port
                self.owner.around.truth.touch()
            else:
                self.record("listens too", address=f"{host}:{port}")
            sock.setblocking(False)  # Node takes what it is passed as it is, and would stand still in accept()
            talk.send(node.socket_answer(listen), [sock.fileno()])

    def _share(self, talk: Conversation, listen: node.Listen) -> None:
        shared = [sock for _, sock in self.owner.around.shared(self.owner.slot.pool)]
        fitting = [sock for sock in shared if listen.port in (0, place_of(sock)[1])]
        if not fitting:
            ports = ", ".join(str(place_of(sock)[1]) for sock in shared)
            # The program would refuse the socket: Node compares the port with the one that was asked for.
            raise OSError(errno.EADDRNOTAVAIL, f'in mode "shared" its port must be that of the listener: {ports}')
        # As `_bind`; here the others that have it would wake for a connection that one of them takes.
        fitting[0].setblocking(False)
        talk.send(node.socket_answer(listen), [fitting[0].fileno()])

    def _is_listening(self, talk: Conversation, port: int) -> None:
        backend, first = self.owner.backend, self._first
        if first is None or self._listening.is_set() or first.port not in (0, port):
            return
        self._listening.set()
        if self.owner.launch.mode == "pass":
            self.owner.around.doors.open(backend.id, backend.pool, talk.fileno(), node.connection_to(first))
        self.record("listening", address=backend.address)


def _bound(port: int) -> socket.socket:
    """A bound TCP socket, its address nobody else's. Raises OSError."""
    for attempt in range(_TRIES):
        number = next(_ADDRESSES) % (1 << 22)
        host = f"127.{64 + (number >> 16)}.{number >> 8 & 255}.{number & 255}"
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if attempt:
                # A listener of ours may have this port on all addresses: beside it only with this, and ours have it too.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            sock.bind((host, port))
            return sock
        except OSError as error:
            sock.close()
            if error.errno != errno.EADDRINUSE or attempt == _TRIES - 1:
                raise
    raise AssertionError("the last attempt returns or raises")
