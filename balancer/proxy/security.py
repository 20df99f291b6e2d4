"""TLS of this proxy: what the supervisor gave for its listeners and backends, and the handshake that comes before a first request."""

import base64
import ssl
from collections import OrderedDict
from collections.abc import Mapping
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import trio

from balancer.errors import Fault, Moment, Reason, Side
from balancer.net.contexts import ClientTls, ServerTls, client_context, server_context
from balancer.net.tls import TlsWire
from balancer.net.wire import Wire

if TYPE_CHECKING:
    from balancer.pool.snapshot import ListenerPicture

HANDSHAKES: Final = 1024  # at a time; each holds some 30 KB, which anybody may have without a word of HTTP
_STALLED: Final = 0.5  # seconds without an answer: such a handshake makes room for another if there is none
_LOOK_AGAIN: Final = 0.1
_HANDSHAKE_RECORD: Final = 0x16


class Security:
    """Contexts by listener and by backend, and the handshakes that are under way."""

    def __init__(self) -> None:
        self._servers: dict[str, tuple[ServerTls, ssl.SSLContext]] = {}
        self._clients: dict[str, tuple[ClientTls, ssl.SSLContext]] = {}
        self._shaking: OrderedDict[TlsWire, float] = OrderedDict()  # since when
        self._room = trio.lowlevel.ParkingLot()

    def apply(self, message: Mapping[str, Any]) -> list[str]:
        """Take over what the supervisor says, for new connections; what does not work leaves what was there. Returns problems.

        What has not changed stays as it is, with the keys of its session tickets.
        """
        problems: list[str] = []
        for name, value in message["listeners"].items():
            server = ServerTls.from_json(value)
            known = self._servers.get(name)
            try:
                if known is None or known[0] != server:
                    self._servers[name] = (server, server_context(server))
            except (OSError, ValueError) as error:
                problems.append(f"listen.{name}.tls: {error}")
        clients: dict[str, tuple[ClientTls, ssl.SSLContext]] = {}
        for id, value in message["backends"].items():  # noqa: A001
            client = ClientTls(**value)
            known_client = self._clients.get(id)
            try:
                if known_client is None or known_client[0] != client:
                    known_client = (client, client_context(client))
            except (OSError, ValueError) as error:
                problems.append(f"TLS towards {client.server_name}: {error}")
            if known_client is not None:
                clients[id] = known_client
        self._clients = clients
        return problems

    async def secure(self, wire: Wire, picture: "ListenerPicture", started: float) -> bytes | None:
        """The handshake with a client.

        Gives the lines that tell a backend who the client is (RFC 9440), b"" without a client's certificate; None if the client has left
        before it began. started: CLOCK_MONOTONIC seconds from which its deadline counts. Raises Fault: PLAIN_HTTP, TLS_FAILED, or what a
        broken connection means; in the first two cases the wire is plain and may be written to.
        """
        assert isinstance(wire, TlsWire)
        wire.late = wire.late_write = Reason.CLIENT_GONE
        wire.read_deadline = started + picture.handshake_timeout
        wire.write_timeout = picture.handshake_timeout
        known = self._servers.get(picture.name)
        if known is None:
            raise Fault(Side.BALANCER, Reason.INTERNAL, detail="no certificate")
        # One that says nothing costs nothing: only from its first byte on it takes one of the places.
        first = await wire.first_bytes()
        if not first:
            return None
        if first[0] != _HANDSHAKE_RECORD:
            is_request = first[:1].isalpha() and first.isascii()
            reason = Reason.PLAIN_HTTP if is_request else Reason.TLS_FAILED
            raise Fault(Side.CLIENT, reason, detail="no TLS handshake")
        await self._find_room(wire)
        self._shaking[wire] = monotonic()
        try:
            await wire.handshake(known[1])
        finally:
            del self._shaking[wire]
            if self._room:
                self._room.unpark()
        return _identity(wire) if known[0].client_auth != "none" else b""

    async def secure_backend(self, wire: Wire, id: str) -> None:  # noqa: A002
        """The handshake with a backend; the caller sets the deadlines. Raises Fault (backend, before send)."""
        assert isinstance(wire, TlsWire)
        known = self._clients.get(id)
        if known is None:
            raise Fault(Side.BACKEND, Reason.TLS_FAILED, Moment.BEFORE_SEND, "no TLS settings")
        tls, context = known
        await wire.handshake(context, tls.server_name or None)

    async def _find_room(self, wire: TlsWire) -> None:
        while len(self._shaking) >= HANDSHAKES and not self._evict():
            if wire.is_gone() or monotonic() > wire.read_deadline:
                raise Fault(Side.CLIENT, Reason.CLIENT_GONE)
            with trio.move_on_after(_LOOK_AGAIN):
                await self._room.park()

    def _evict(self) -> bool:
        """End the handshake that has waited longest for its client, if any has waited long; whether there was one."""
        oldest = monotonic() - _STALLED
        for wire, since in self._shaking.items():
            if since > oldest:
                return False
            if wire.reader is not None:  # else its client has answered, and it is our turn
                wire.interrupt(Fault(Side.CLIENT, Reason.CLIENT_GONE))
                return True
        return False


def _identity(wire: TlsWire) -> bytes:
    """The field line with the client's certificate, verified by now."""
    der = wire.certificate
    return b"Client-Cert: :%s:\r\n" % base64.b64encode(der) if der else b""
