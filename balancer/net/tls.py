"""A wire that speaks TLS: the same waits and deadlines, over OpenSSL on the non-blocking socket.

What `ssl.SSLSocket` stands on is used without it (`_Session`): making one turns the socket into another object by six system calls
and more Python than the rest of a handshake, a tenth of what a connection costs. gevent does the same.

Two things differ from a plain one below the surface. Decrypted bytes may be waiting in OpenSSL while the kernel has none, so
only its own word that it wants more ends `readable`; and it may have to write before it can read, or the other way round.
"""

import ssl
from socket import IPPROTO_TCP, MSG_PEEK, TCP_CORK, socket
from typing import Any, ClassVar, Final, Protocol

from trio.lowlevel import current_task, wait_task_rescheduled

from balancer.errors import Fault, Moment, Reason, Side
from balancer.net.poller import Poller
from balancer.net.wire import EITHER_WAY, Wire

_RECORD: Final = 16384  # bytes of plain text in one TLS record at most, and so of one read or write
_READ_AHEAD: Final = 1024 * 1024  # bytes taken in before a half-close: what came later is not waited for


class _Session(Protocol):
    """What `ssl.SSLContext._wrap_socket` gives: a TLS session over a socket, each call of which raises ssl.SSLError or ValueError."""

    context: ssl.SSLContext
    session_reused: bool

    def do_handshake(self) -> None: ...
    def read(self, size: int, /) -> bytes: ...
    def write(self, data: "bytes | memoryview[int]", /) -> int: ...
    def shutdown(self) -> Any: ...
    def getpeercert(self, binary_form: bool, /) -> Any: ...


class TlsWire(Wire):
    """Plain until `handshake`, and again once TLS has had its last word."""

    is_plain: ClassVar[bool] = False

    __slots__ = ("__weakref__", "_crossed", "_has_ended", "_is_cut", "_session", "_stash", "tls")

    def __init__(self, poller: Poller, sock: socket, side: Side, broken: Reason) -> None:
        super().__init__(poller, sock, side, broken)
        self._session: _Session | None = None  # from the first byte of the handshake on
        self.tls: _Session | None = None  # while TLS is spoken
        self._stash = b""  # decrypted in order to look at it
        self._crossed = False  # OpenSSL waits for the other direction than its caller
        self._is_cut = False
        self._has_ended = False  # the peer's close_notify came while ours was said

    async def first_bytes(self) -> bytes:
        """The first bytes that come, which stay to be read; b"" at the end. Raises Fault."""
        while True:
            try:
                return self._recv(8, MSG_PEEK)
            except BlockingIOError:
                self.readable = False
                await self.wait_readable()
            except OSError as error:
                raise self.fault(error) from None

    async def handshake(self, context: ssl.SSLContext, server_name: str | None = None) -> None:
        """As a server, or as the client that wants `server_name` where the context is a client's. The caller sets the deadlines.

        Raises Fault: TLS_FAILED with what OpenSSL says, or what a broken connection means on this wire; the wire is plain then.
        """
        is_server = context.protocol is ssl.PROTOCOL_TLS_SERVER
        if not is_server and not server_name and context.check_hostname:
            raise Fault(self.side, self.broken, Moment.BEFORE_SEND, "no name to verify the certificate by")
        try:
            name = server_name.encode("idna").decode("ascii") if server_name else None
            session = self._session = _session(context, self.sock, is_server, name, self)
        except (OSError, ValueError) as error:
            raise Fault(self.side, self.broken, Moment.BEFORE_SEND, str(error)) from None
        while True:
            try:
                session.do_handshake()
                break
            except ssl.SSLWantReadError:
                self.readable = False
                await self.wait_readable()
            except ssl.SSLWantWriteError:
                self.writable = False
                await self.wait_writable()
            except (OSError, ValueError) as error:
                raise self._handshake_fault(error) from None
        self.tls = session
        self.readable = True

    @property
    def context(self) -> ssl.SSLContext:
        """What it shakes hands by; a server's `sni_callback` may set another one, as on an `ssl.SSLObject`."""
        assert self._session is not None
        return self._session.context

    @context.setter
    def context(self, context: ssl.SSLContext) -> None:
        assert self._session is not None
        self._session.context = context

    @property
    def certificate(self) -> bytes:
        """The peer's, DER, as it was verified; b"" if it showed none, or was not asked."""
        return (self.tls.getpeercert(True) if self.tls is not None else None) or b""

    @property
    def is_resumed(self) -> bool:
        """Whether the handshake took up an earlier session."""
        return self.tls is not None and bool(self.tls.session_reused)

    def on_events(self, events: int) -> None:
        """Called by the poller with what epoll reported."""
        if self._crossed and events & EITHER_WAY:
            self._crossed = False
            events |= EITHER_WAY
        super().on_events(events)

    def is_gone(self) -> bool:
        """Whether the peer has left and nothing that it sent is still to be read, or the connection is broken."""
        if self.tls is None or not self.left or self.is_dead:
            return super().is_gone()
        return not self.has_bytes() and self.readable

    def has_bytes(self) -> bool:
        """Whether there is something to read other than an end; it is kept for the next `receive`."""
        if self.tls is None:
            return super().has_bytes()
        if not self._stash:
            try:
                self._stash = self._read_now(_RECORD) or b""
            except Fault:
                return False
        return bool(self._stash)

    def is_silent(self) -> bool:
        """Whether nothing has come that nobody has read, neither bytes nor an end; what TLS says for itself is taken in."""
        if self.tls is None:
            return super().is_silent()
        return not self.has_bytes() and not self.readable

    async def receive(self, size: int = 32768) -> bytes:
        """What there is to read, at most `size` bytes; b"" at the end that the peer has announced. Raises Fault otherwise."""
        if self.tls is None:
            return await super().receive(size)
        while True:
            if self._stash:
                data, self._stash = self._stash[:size], self._stash[size:]
                return data
            if self.readable:
                more = self._read_now(size)
                if more is not None:
                    return more
            if self._fault is not None:
                raise self._fault.again()
            if not self.readable:
                self.reader = current_task()
                await wait_task_rescheduled(self._abort_reader)

    def send_now(self, data: "bytes | memoryview[int]") -> int:
        """Write what fits now; how many bytes that was. What did not fit must be offered again, as it is, or nothing any more."""
        tls = self.tls
        if tls is None:
            return super().send_now(data)
        sent, size = 0, len(data)
        try:
            while sent < size:
                sent += tls.write(memoryview(data)[sent:] if sent else data)
        except ssl.SSLWantWriteError:
            pass
        except ssl.SSLWantReadError:
            self._cross()
        except (OSError, ValueError) as error:
            raise self.fault(error) from None
        return sent

    def send_last(self, data: bytes) -> int:
        """As `send_now`, for the last words before `close` or `hang_up`: they leave together, with TLS's own last word."""
        try:
            self.sock.setsockopt(IPPROTO_TCP, TCP_CORK, 1)
        except OSError:
            pass  # no TCP, or gone, which writing will tell
        return self.send_now(data)

    def fault(self, error: Exception) -> Fault:
        """What an error on this wire means."""
        if isinstance(error, ssl.SSLEOFError):
            return Fault(self.side, self.broken, Moment.AFTER_SEND, "broke off without TLS's close_notify")
        if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
            return super().fault(error)
        return Fault(self.side, self.broken, Moment.AFTER_SEND, _said(error))

    def shutdown_write(self) -> None:
        """Say that nothing more comes; reading goes on."""
        if self.tls is None:
            super().shutdown_write()
            return
        # OpenSSL's way of ending looks for the peer's end too, and breaks the connection when it finds bytes in its place.
        more: bytes | None = b"?"
        try:
            while more and len(self._stash) < _READ_AHEAD:
                more = self._read_now(_RECORD)
                self._stash += more or b""
        except Fault:
            return  # reading will tell
        if not more:
            self._say_end()

    async def hang_up(self) -> None:
        """Say the last word, TLS's too; what comes from now on is read as it is, to be gone."""
        while self.tls is not None and not self._say_end():
            self.writable = False
            await self.wait_writable()
        self.tls = None
        self._stash = b""
        self.readable = True
        await super().hang_up()

    def reset_on_close(self) -> None:
        """Have `close` reset the connection: its end must not look like the end of what was being sent."""
        self._is_cut = True
        super().reset_on_close()

    def close(self) -> None:
        """Close it, with TLS's last word where it is one; whoever still waits on it gets a fault. May be called again."""
        if self.tls is not None and self.fd >= 0 and not self._is_cut:
            self._say_end()
        self.tls = None
        super().close()

    def _read_now(self, size: int) -> bytes | None:
        """What is there, at most `size` bytes; b"" at the end, None when nothing is. Raises Fault."""
        tls = self.tls
        assert tls is not None
        if self._has_ended:
            return b""
        try:
            data = tls.read(size)
            if len(data) < _RECORD or len(data) == size:
                return data
        except ssl.SSLWantReadError:
            self.readable = False
            return None
        except ssl.SSLWantWriteError:
            self.readable = False
            self._cross()
            return None
        except (OSError, ValueError) as error:
            raise self.fault(error) from None
        # A full record is seldom the last: fewer and larger pieces make fewer writes on the other side.
        pieces, left = [data], size - len(data)
        try:
            while left and data:
                data = tls.read(left)
                pieces.append(data)
                left -= len(data)
        except ssl.SSLWantReadError:
            self.readable = False
        except (OSError, ValueError):
            pass  # the next read tells
        return b"".join(pieces)

    def _cross(self) -> None:
        self._crossed = True
        if not self._wants_writable:
            self._wants_writable = True
            self._poller.want_writable(self)

    def _say_end(self) -> bool:
        """Send close_notify; False if there is no room for it now."""
        tls = self.tls
        assert tls is not None
        try:
            tls.shutdown()
            self._has_ended = True
        except ssl.SSLWantWriteError:
            return False
        except (OSError, ValueError):
            pass  # said, and the peer's own end is not there yet; or nobody hears it
        return True

    def _handshake_fault(self, error: Exception) -> Fault:
        is_tls = isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError)
        reason = Reason.TLS_FAILED if is_tls or self.side is Side.BACKEND else self.broken
        return Fault(self.side, reason, Moment.BEFORE_SEND, _said(error))


def _session(context: ssl.SSLContext, sock: socket, is_server: bool, name: str | None, wire: TlsWire) -> _Session:
    # `owner` is what a server's context hands to its `sni_callback`.
    made: _Session = context._wrap_socket(sock, is_server, name, owner=wire)  # type: ignore[attr-defined]
    return made


def _said(error: Exception) -> str:
    """The gist of an error, for a log."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate verify failed: {error.verify_message}"
    if isinstance(error, ssl.SSLEOFError):
        return "broke off in the handshake"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else "") or str(error)
