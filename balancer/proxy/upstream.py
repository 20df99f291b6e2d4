"""Connections to backends: made, kept while idle, taken again, dropped the moment a backend closes its end."""

import errno
import socket
from math import inf
from time import monotonic
from typing import Final

from balancer.errors import Fault, Moment, Reason, Side
from balancer.net.poller import Poller
from balancer.net.tls import TlsWire
from balancer.net.wire import Wire
from balancer.proxy.backend import Backend
from balancer.proxy.security import Security

_REFUSED: Final = frozenset((errno.ECONNREFUSED, errno.ENOENT))


class Upstream:
    """One connection to a backend. `buffer` holds what was read beyond what has been used."""

    __slots__ = ("_is_idle", "backend", "buffer", "idle_since", "is_reused", "wire")

    def __init__(self, wire: Wire, backend: Backend) -> None:
        self.wire = wire
        self.backend = backend
        self.buffer = b""
        self.is_reused = False
        self.idle_since = 0.0
        self._is_idle = False
        wire.on_readable = self._on_readable

    def park(self) -> None:
        """Keep it for the next request, if it is still good and there is room; else close it."""
        backend = self.backend
        # A wire that was interrupted after its last wait would give that fault to the next request.
        if (
            self.wire.is_interrupted
            or backend.draining
            or len(backend.idle) >= backend.pool.picture.keep_alive
            or not self.is_quiet()
        ):
            self.close()
            return
        self.idle_since = monotonic()
        self._is_idle = True
        backend.idle.append(self)

    def is_quiet(self) -> bool:
        """Whether nothing is known to have come since the last response: neither an end nor bytes that nobody asked for."""
        return not self.wire.readable or self.is_open()

    def is_open(self) -> bool:
        """The same, but nothing has come indeed: asks the kernel, whatever the poller has said so far."""
        return self.wire.is_silent()

    def expire(self) -> None:
        """Close it while idle."""
        if self._is_idle:
            self._is_idle = False
            self.backend.idle.remove(self)
        self.close()

    def close(self) -> None:
        """Close it, in whatever state it is."""
        self.wire.close()

    def _on_readable(self, wire: Wire) -> None:
        # While idle, anything that comes makes it useless: an end, or bytes that would be taken for the next response. What TLS
        # has to say for itself, a ticket for one, is neither.
        if self._is_idle and (wire.is_plain or not wire.is_silent()):
            if wire.left and not self.backend.draining:
                now = monotonic()
                self.backend.habits.notice(now - self.idle_since, now)
            self.expire()

    def taken(self) -> None:
        """It leaves the idle ones for a request."""
        self._is_idle = False
        self.is_reused = True


def take_idle(backend: Backend, must_be_safe: bool = False) -> Upstream | None:
    """The idle connection that was used last: it is the least likely to be closing.

    must_be_safe: only one that the backend has no reason to close yet (`pool.habits`), and that is known to be open: asked,
    not assumed.
    """
    idle = backend.idle
    if must_be_safe:
        oldest = monotonic() - backend.habits.safe_for(backend.pool.picture.keep_alive_timeout)
        while idle and idle[-1].idle_since > oldest and not idle[-1].is_open():
            idle[-1].expire()
        if idle and idle[-1].idle_since <= oldest:
            return None
    if not idle:
        return None
    upstream = idle.pop()
    upstream.taken()
    return upstream


async def connect(backend: Backend, poller: Poller, timeout: float, client: Wire, security: Security) -> Upstream:
    """A new connection. Raises Fault (backend, before send) when it is refused, fails or takes more than `timeout` seconds.

    A client that leaves meanwhile ends the attempt (Fault of the client); the caller clears `client.watcher` after a fault.
    """
    started = monotonic()
    try:
        sock = socket.socket(backend.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    except OSError as error:
        raise Fault(Side.BALANCER, Reason.INTERNAL, detail=f"no socket: {error.strerror}") from None
    try:
        if backend.family is not socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(backend.address)
        if code not in (0, errno.EINPROGRESS):
            raise _connect_fault(code)
        wire = (TlsWire if backend.tls else Wire)(poller, sock, Side.BACKEND, Reason.RESET)
    except BaseException:
        sock.close()
        raise
    # Nothing to read is expected before we have asked. Said before the first wait: what comes all the same, an end above
    # all, is reported once and must not be forgotten.
    wire.readable = False
    if code == errno.EINPROGRESS:
        try:
            wire.writable = False
            wire.write_timeout = timeout
            wire.late_write = Reason.CONNECT_TIMEOUT
            client.watcher = wire
            await wire.wait_writable()
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                raise _connect_fault(code)
        except BaseException:
            wire.close()
            raise
    if sock.getsockname()[:2] == backend.address:
        # Nobody listens there, and the kernel gave this end the very port it was calling (simultaneous open).
        wire.close()
        raise _connect_fault(errno.ECONNREFUSED)
    if backend.tls:
        await _secure(wire, backend.tls, started + timeout, client, security)
    wire.late_write = Reason.RESPONSE_TIMEOUT
    wire.write_deadline = inf
    return Upstream(wire, backend)


async def _secure(wire: Wire, tls: str, deadline: float, client: Wire, security: Security) -> None:
    wire.late = wire.late_write = Reason.CONNECT_TIMEOUT
    wire.read_deadline = deadline
    client.watcher = wire
    try:
        await security.secure_backend(wire, tls)
    except BaseException:
        wire.close()
        raise


def is_refusing(backend: Backend) -> bool:
    """Whether the kernel says at once that nobody listens there: a sure sign of death, as for as long as it lives it listens."""
    try:
        with socket.socket(backend.family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK) as sock:
            code = sock.connect_ex(backend.address)
            # On one machine a refusal is there before the call returns, although TCP says "in progress".
            return (
                sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) if code == errno.EINPROGRESS else code
            ) in _REFUSED
    except OSError:
        return False


def _connect_fault(code: int) -> Fault:
    reason = Reason.CONNECT_REFUSED if code in _REFUSED else Reason.CONNECT_FAILED
    return Fault(Side.BACKEND, reason, Moment.BEFORE_SEND, errno.errorcode.get(code, str(code)))
