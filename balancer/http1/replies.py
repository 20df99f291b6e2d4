"""The balancer's own answers: the one table from a fault to status, Proxy-Status and fate of the connection."""

import json
import re
from typing import NamedTuple

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.headers import field_values

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# RFC 9110 9.2.2. Other methods, unknown ones too, may do twice what was meant once.
IDEMPOTENT = frozenset((b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE"))


class _Rescue(NamedTuple):
    status: int
    phrase: str
    error: str  # a proxy error type of RFC 9209 2.3
    closes: bool  # what follows on the client's connection cannot be told from what went wrong


_RESCUES = {
    Reason.BAD_REQUEST: _Rescue(400, "Bad Request", "http_request_error", True),
    Reason.HEAD_TIMEOUT: _Rescue(408, "Request Timeout", "http_request_error", True),
    Reason.REQUEST_BODY_TIMEOUT: _Rescue(408, "Request Timeout", "http_request_error", True),
    Reason.TARGET_TOO_LONG: _Rescue(414, "URI Too Long", "http_request_error", True),
    Reason.HEAD_TOO_LARGE: _Rescue(431, "Request Header Fields Too Large", "http_request_error", True),
    Reason.TOO_MANY_HEADERS: _Rescue(431, "Request Header Fields Too Large", "http_request_error", True),
    Reason.BODY_TOO_LARGE: _Rescue(413, "Content Too Large", "http_request_error", True),
    Reason.UNKNOWN_TRANSFER_CODING: _Rescue(501, "Not Implemented", "http_request_error", True),
    Reason.METHOD_NOT_ALLOWED: _Rescue(405, "Method Not Allowed", "http_request_denied", True),
    Reason.VERSION_NOT_SUPPORTED: _Rescue(505, "HTTP Version Not Supported", "http_request_error", True),
    Reason.NO_ROUTE: _Rescue(404, "Not Found", "destination_not_found", False),
    Reason.DENIED: _Rescue(403, "Forbidden", "http_request_denied", True),
    Reason.TOO_MANY_REQUESTS: _Rescue(429, "Too Many Requests", "http_request_denied", False),
    Reason.TOO_MANY_CONNECTIONS: _Rescue(429, "Too Many Requests", "http_request_denied", True),
    Reason.LOOP: _Rescue(508, "Loop Detected", "proxy_loop_detected", False),
    # Counted only: who does not speak the protocol that both sides were set to gets no answer.
    Reason.BAD_PROXY_HEADER: _Rescue(400, "Bad Request", "http_request_error", True),
    # On a listener that speaks TLS.
    Reason.PLAIN_HTTP: _Rescue(400, "Bad Request", "http_request_error", True),
    Reason.CLIENT_GONE: _Rescue(499, "Client Closed Request", "connection_terminated", True),
    Reason.CONNECT_REFUSED: _Rescue(502, "Bad Gateway", "connection_refused", False),
    Reason.CONNECT_TIMEOUT: _Rescue(504, "Gateway Timeout", "connection_timeout", False),
    Reason.CONNECT_FAILED: _Rescue(502, "Bad Gateway", "destination_unavailable", False),
    Reason.TLS_FAILED: _Rescue(502, "Bad Gateway", "tls_protocol_error", False),
    Reason.RESET: _Rescue(502, "Bad Gateway", "connection_terminated", False),
    Reason.BAD_RESPONSE: _Rescue(502, "Bad Gateway", "http_protocol_error", False),
    Reason.RESPONSE_TIMEOUT: _Rescue(504, "Gateway Timeout", "http_response_timeout", False),
    Reason.RESPONSE_BODY_TIMEOUT: _Rescue(504, "Gateway Timeout", "connection_read_timeout", True),
    Reason.TRUNCATED: _Rescue(502, "Bad Gateway", "http_response_incomplete", True),
    Reason.NO_BACKEND: _Rescue(503, "Service Unavailable", "destination_unavailable", False),
    Reason.QUEUE_FULL: _Rescue(503, "Service Unavailable", "connection_limit_reached", False),
    Reason.QUEUE_TIMEOUT: _Rescue(503, "Service Unavailable", "connection_limit_reached", False),
    Reason.QUARANTINED: _Rescue(503, "Service Unavailable", "http_request_denied", False),
    Reason.STOPPING: _Rescue(503, "Service Unavailable", "destination_unavailable", True),
    Reason.DRAINING: _Rescue(503, "Service Unavailable", "destination_unavailable", True),
    Reason.INTERNAL: _Rescue(500, "Internal Server Error", "proxy_internal_error", True),
}


def status_of(fault: Fault) -> int:
    """The status of the answer to a fault: what the access log says, also where nothing can be sent any more (499)."""
    return _RESCUES[fault.reason].status


def closes(fault: Fault) -> bool:
    """Whether the client's connection must end with the answer; the caller may have reasons of its own."""
    return _RESCUES[fault.reason].closes


def reply(
    fault: Fault,
    *,
    minor: int,
    accept_json: bool,
    request_id: bytes,
    id_header: bytes,
    retry_after: int | None,
    close: bool,
    head_only: bool,
    date: bytes = b"",
) -> bytes:
    """The whole answer to a fault, head and body.

    minor: of the request: an HTTP/1.0 client is told when its connection stays. accept_json: see `prefers_json`.
    request_id, id_header: the line to return, as it shall be spelt; b"" leaves it out. retry_after: seconds, for a 503 or
    429; one when not known. close: end the connection, in addition to what the fault demands. head_only: the request was HEAD.
    date: an HTTP-date; b"" leaves it out.
    """
    rescue = _RESCUES[fault.reason]
    media_type, body = _body(rescue, fault.reason, accept_json, request_id)
    lines = [f"HTTP/1.1 {rescue.status} {rescue.phrase}".encode()]
    if date:
        lines.append(b"Date: " + date)
    lines.append(b"Content-Type: " + media_type)
    lines.append(b"Content-Length: %d" % len(body))
    if request_id and id_header:
        lines.append(b"%s: %s" % (id_header, request_id))
    lines.append(f'Proxy-Status: balancer; error={rescue.error}; details="{fault.reason}"'.encode())
    if rescue.status in (429, 503):
        lines.append(b"Retry-After: %d" % max(1, retry_after or 0))
    if rescue.status == 405:  # RFC 9110 15.5.6 demands it; any method but CONNECT may be meant for a backend
        lines.append(b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE")
    if close or rescue.closes:
        lines.append(b"Connection: close")
    elif minor == 0:
        lines.append(b"Connection: keep-alive")
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    return head if head_only else head + body


def _body(rescue: _Rescue, reason: Reason, accept_json: bool, request_id: bytes) -> tuple[bytes, bytes]:
    identity = request_id.decode("latin-1")
    if accept_json:
        value = {"status": rescue.status, "error": rescue.phrase, "reason": str(reason)}
        if identity:
            value["request_id"] = identity
        return b"application/json", json.dumps(value).encode() + b"\n"
    text = f"{rescue.status} {rescue.phrase}\nreason: {reason}\n" + (f"request id: {identity}\n" if identity else "")
    return b"text/plain; charset=utf-8", text.encode()


_WEIGHT = re.compile(rb"q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)").fullmatch
_JSON_RANGES = {b"application/json": 2, b"application/problem+json": 2, b"application/*": 1, b"*/*": 0}
_TEXT_RANGES = {b"text/plain": 2, b"text/*": 1, b"text/html": 1, b"*/*": 0}


def prefers_json(fields: bytes) -> bool:
    """Whether Accept in a block of field lines puts JSON above plain text (RFC 9110 12.5.1); a tie is plain text."""
    best = {"json": (-1, 0.0), "text": (-1, 0.0)}
    for member in b",".join(field_values(fields, b"accept")).lower().split(b","):
        media_range, *parameters = (part.strip(b" \t") for part in member.split(b";"))
        weight = 1.0
        for parameter in parameters:
            found = _WEIGHT(parameter)
            if found:
                weight = float(found[1])
        for kind, ranges in (("json", _JSON_RANGES), ("text", _TEXT_RANGES)):
            # The most specific range that matches decides, whatever its weight.
            precision = ranges.get(media_range, -1)
            if precision > best[kind][0] or (precision == best[kind][0] >= 0 and weight > best[kind][1]):
                best[kind] = (precision, weight)
    return best["json"][1] > best["text"][1]


def may_retry(fault: Fault, method: bytes, backend_exited: bool) -> bool:
    """Whether another backend may be given the same request.

    Before anything was sent: always. Sent, but no byte of a response: an idempotent method, or any if the backend is known to
    have exited before it could read the request. Once a response has begun, or the backend may still be at work (too slow):
    never. A fault of the client or of our own is not for another backend to mend. The request's body must be at hand: the
    caller's condition.
    """
    if fault.side is not Side.BACKEND or fault.moment is Moment.MID_RESPONSE:
        return False
    if fault.reason in (Reason.RESPONSE_TIMEOUT, Reason.RESPONSE_BODY_TIMEOUT):
        return False
    return fault.moment is Moment.BEFORE_SEND or method in IDEMPOTENT or backend_exited
