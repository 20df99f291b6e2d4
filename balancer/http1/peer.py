"""HTTP/1.1 for our own ends, over h11: the admin server and the clients that probe and ask it. Not for proxied requests.

Sans-io: bytes go in and out, waiting is the caller's. Whole messages with bounded bodies, or a body in pieces where it is a
stream of events.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import h11

from balancer.errors import BalancerError

Fields = Sequence[tuple[str, str]]


class PeerError(BalancerError):
    """The other side broke the protocol or a limit. `status`: what a server should answer before it closes."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class Request:
    """A whole request; names of fields in lower case, text as Latin-1."""

    method: str
    target: str
    fields: tuple[tuple[str, str], ...]
    body: bytes

    def field(self, name: str) -> str:
        """The first value of the field `name` (lower case); "" without one."""
        return next((value for found, value in self.fields if found == name), "")


@dataclass(frozen=True, slots=True)
class Response:
    """A response; `body` is whole from `whole_response`, and b"" from `response_head`."""

    status: int
    fields: tuple[tuple[str, str], ...]
    body: bytes = b""

    def field(self, name: str) -> str:
        """The first value of the field `name` (lower case); "" without one."""
        return next((value for found, value in self.fields if found == name), "")


def _text(fields: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in fields)


def _raw(fields: Fields) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]


class ServerPeer:
    """The server's end of one connection: a request, its answer, the next request."""

    def __init__(self, max_head: int = 16 * 1024, max_body: int = 1024 * 1024) -> None:
        self._h11 = h11.Connection(h11.SERVER, max_incomplete_event_size=max_head)
        self._max_body = max_body
        self._request: h11.Request | None = None
        self._bodyless = False  # the answer has no body whatever is given: the request was HEAD
        self._body = bytearray()

    def feed(self, data: bytes) -> None:
        """Take what was received; b"" when the client has ended. Raises PeerError."""
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise PeerError(str(error)) from None

    def next_request(self) -> Request | None:
        """The next whole request; None while more bytes are needed, or when `ended`. Raises PeerError."""
        while True:
            try:
                event = self._h11.next_event()
            except h11.RemoteProtocolError as error:
                raise PeerError(str(error), error.error_status_hint) from None
            if isinstance(event, h11.Request):
                self._request = event
                self._bodyless = event.method == b"HEAD"
                self._body.clear()
            elif isinstance(event, h11.Data):
                self._body += event.data
                if len(self._body) > self._max_body:
                    raise PeerError("the body is too large", 413)
            elif isinstance(event, h11.EndOfMessage):
                request = self._request
                assert request is not None
                self._request = None
                return Request(
                    request.method.decode("latin-1"),
                    request.target.decode("latin-1"),
                    _text(request.headers),
                    bytes(self._body),
                )
            else:
                return None

    @property
    def wants_continue(self) -> bool:
        """Whether the client waits for "100 Continue" before it sends the body: send `continue_line()`."""
        return self._h11.they_are_waiting_for_100_continue

    def continue_line(self) -> bytes:
        """The bytes of a "100 Continue"."""
        return self._send(h11.InformationalResponse(status_code=100, headers=[]))

    @property
    def ended(self) -> bool:
        """Whether no further request can come on this connection."""
        return self._h11.their_state in (h11.CLOSED, h11.ERROR, h11.MUST_CLOSE) or self._h11.our_state is h11.MUST_CLOSE

    def respond(self, status: int, fields: Fields, body: bytes = b"") -> bytes:
        """The bytes of a whole answer; Content-Length is added (a 204 or 304 has no body).

        Also the answer to a PeerError. Afterwards the next request may be asked for, unless `ended`.
        """
        if status in (204, 304):
            return self.begin(status, fields) + self.finish()
        begun = self.begin(status, [*fields, ("Content-Length", str(len(body)))])
        return begun + self.more(body) + self.finish()

    def begin(self, status: int, fields: Fields) -> bytes:
        """The head of an answer whose body follows by `more` and `finish`; without Content-Length it is chunked."""
        return self._send(h11.Response(status_code=status, headers=_raw(fields)))

    def more(self, data: bytes) -> bytes:
        """A piece of the body; nothing for a HEAD request."""
        return self._send(h11.Data(data=data)) if data and not self._bodyless else b""

    def finish(self) -> bytes:
        """The end of the body, ready for the next request."""
        sent = self._send(h11.EndOfMessage())
        if self._h11.our_state is h11.DONE and self._h11.their_state is h11.DONE:
            self._h11.start_next_cycle()
        return sent

    def _send(self, event: h11.Event) -> bytes:
        return self._h11.send(event) or b""


class ClientPeer:
    """The client's end of one connection for one request: probes, and the command line's questions."""

    def __init__(self, max_head: int = 64 * 1024, max_body: int = 16 * 1024 * 1024) -> None:
        self._h11 = h11.Connection(h11.CLIENT, max_incomplete_event_size=max_head)
        self._max_body = max_body
        self._head: Response | None = None
        self._body = bytearray()
        self.done = False

    def request(self, method: str, target: str, fields: Fields, body: bytes = b"") -> bytes:
        """The bytes of the request; `fields` must name Host. Content-Length is added when there is a body."""
        lines = [*fields, ("Content-Length", str(len(body)))] if body else list(fields)
        head = self._send(h11.Request(method=method, target=target, headers=_raw(lines)))
        return head + (self._send(h11.Data(data=body)) if body else b"") + self._send(h11.EndOfMessage())

    def feed(self, data: bytes) -> None:
        """Take what was received; b"" when the server has ended. Raises PeerError."""
        try:
            self._h11.receive_data(data)
        except h11.RemoteProtocolError as error:
            raise PeerError(str(error)) from None

    def response_head(self) -> Response | None:
        """Status and fields once they are there; 1xx are passed over. Raises PeerError."""
        while self._head is None:
            event = self._next()
            if event is h11.NEED_DATA or event is h11.PAUSED:
                return None
            if isinstance(event, h11.ConnectionClosed):
                raise PeerError("the connection ended before a response")
            if isinstance(event, h11.Response):
                self._head = Response(event.status_code, _text(event.headers))
        return self._head

    def pieces(self) -> bytes:
        """What has come of the body since the last call; `done` tells when that was all. Raises PeerError."""
        if self.response_head() is None:
            return b""
        found = bytearray()
        while not self.done:
            event = self._next()
            if isinstance(event, h11.Data):
                found += event.data
            elif isinstance(event, h11.EndOfMessage):
                self.done = True
            else:
                break
        return bytes(found)

    def whole_response(self) -> Response | None:
        """The response with its body once all of it is there. Raises PeerError, also for a body above the limit."""
        self._body += self.pieces()
        if len(self._body) > self._max_body:
            raise PeerError("the body is too large")
        if self._head is None or not self.done:
            return None
        return Response(self._head.status, self._head.fields, bytes(self._body))

    def _next(self) -> object:
        try:
            return self._h11.next_event()
        except h11.RemoteProtocolError as error:
            raise PeerError(str(error)) from None

    def _send(self, event: h11.Event) -> bytes:
        return self._h11.send(event) or b""
