"""Request heads: recognised whole, or refused.

Three steps, each for what the one before declines. `_COMMON` is one anchored regular expression that takes the head of a
browser or a library and finds the two lines that matter in it. `_STRICT` takes every head of strict syntax; its special lines are
then looked at one by one. What neither takes is refused, in h11's words where h11 objects too; h11 also has a veto on the
odd forms that are let through. A property test holds all of it to what h11 says.
"""

import re

from balancer.errors import Fault, Reason
from balancer.http1.authority import request_objection
from balancer.http1.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    Special,
    bad_request,
    by_name,
    members,
    named_lines,
    request_length,
)
from balancer.http1.grammar import (
    CONTENT_LENGTH,
    HOST,
    LINE,
    LINES,
    OWS,
    REQUEST_NAME,
    TARGET_CHAR,
    TOKEN,
    VALUE,
    any_case,
)
from balancer.http1.responses import ResponseHead, parse_response

__all__ = ["CHUNKED", "UNTIL_CLOSE", "RequestHead", "ResponseHead", "parse_request", "parse_response"]

END = b"\r\n\r\n"
_LOOK_AT = 1024  # bytes of an incomplete head: asking again after each small piece must stay cheap

_PLAIN = rb"(?:(?!" + REQUEST_NAME + rb":)" + LINE + rb")*+"
_LENGTH_LINE = any_case(b"content-length:") + OWS + rb"(" + CONTENT_LENGTH + rb")" + OWS + rb"\r\n"
_COMMON = re.compile(
    rb"(" + TOKEN + rb") (/" + TARGET_CHAR + rb"*+) HTTP/1\.1\r\n("
    + _PLAIN + any_case(b"host:") + OWS + rb"(" + HOST + rb")" + OWS + rb"\r\n" + _PLAIN
    + rb"(?:" + _LENGTH_LINE + _PLAIN + rb")?"
    + rb"(?:(" + any_case(b"connection:") + OWS
    + rb"(?:" + any_case(b"keep-alive") + rb"|(" + any_case(b"close") + rb"))" + OWS + rb"\r\n)" + _PLAIN + rb")?"
    + rb"(?:" + _LENGTH_LINE + _PLAIN + rb")?"
    + rb")\r\n"
).match  # fmt: skip
_STRICT = re.compile(
    rb"(?:\r\n)?+(" + TOKEN + rb") (" + TARGET_CHAR + rb"++) HTTP/([0-9])\.([0-9])\r\n(" + LINES + rb")\r\n"
).match
_SPECIAL = re.compile(rb"\n(" + REQUEST_NAME + rb"):(" + VALUE + rb")\r").finditer
_HOST = re.compile(HOST).fullmatch
_ABSOLUTE = re.compile(rb"[Hh][Tt][Tt][Pp][Ss]?+://([^/?]*+)(.*+)").fullmatch
_OTHER_VERSION = re.compile(rb"(?:\r\n)?+[^ \r\n]++ [^ \r\n]++ HTTP/[02-9][.\r]").match
# A prefix of a request line, or all of it: what can never become one is refused before it is complete.
_BEGINNING = re.compile(
    rb"(?:\r\n)?+(?:\r?\Z|" + TOKEN + rb"(?:\Z| (?:\Z|" + TARGET_CHAR + rb"++(?:\Z| "
    rb"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9](?:\r\n|\r?\Z)|\Z)|\Z)|[02-9]?\Z)|\Z)|\Z)|\Z)|\Z)|\Z)))))"
).match


class RequestHead:
    """What a proxy must know of a request's head.

    method, target: target as it will be forwarded, origin-form or "*".
    minor: 0 or 1; a higher minor version counts as 1 (RFC 9110 2.5).
    fields: the field lines as received, each with its CRLF, without the final empty line; where the target was in
        absolute-form, Host is already replaced by its authority (RFC 9112 3.2.2).
    size: bytes of the buffer that the head took, a leading empty line and the final CRLFCRLF included.
    host: Host's value; b"" only for HTTP/1.0 without one.
    length: of the body: 0, bytes, or CHUNKED.
    keep_alive: what the client wants and may have.
    upgrade: value of Upgrade if Connection names it, the version is 1.1, there is no body and it is not h2c; else b"".
    expects_continue, trailers_ok: Expect: 100-continue and TE: trailers.
    special: the lines that may have to be cut, in order (`framing.Special`); Host and Content-Length need not be among them.
    """

    __slots__ = (
        "expects_continue",
        "fields",
        "host",
        "keep_alive",
        "length",
        "method",
        "minor",
        "size",
        "special",
        "target",
        "trailers_ok",
        "upgrade",
    )

    def __init__(
        self,
        method: bytes,
        target: bytes,
        minor: int,
        fields: bytes,
        size: int,
        host: bytes,
        special: list[Special],
        length: int = 0,
        keep_alive: bool = True,
        upgrade: bytes = b"",
        expects_continue: bool = False,
        trailers_ok: bool = False,
    ) -> None:
        self.method = method
        self.target = target
        self.minor = minor
        self.fields = fields
        self.size = size
        self.host = host
        self.special = special
        self.length = length
        self.keep_alive = keep_alive
        self.upgrade = upgrade
        self.expects_continue = expects_continue
        self.trailers_ok = trailers_ok


def parse_request(data: bytes, max_size: int, max_fields: int) -> RequestHead | None:
    """Recognise the request head at the start of `data`; None while it is incomplete and may still become one.

    max_size: bytes of the whole head; max_fields: field lines. Raises Fault (Side.CLIENT) as soon as it is clear that no
    acceptable request can come of it.
    """
    # Most heads end the buffer, and asking that is cheaper than searching for the end.
    if not data.endswith(END) and END not in data:
        _check_beginning(data, max_size, max_fields)
        return None
    common = _COMMON(data)
    if common is None:
        return _careful(data, max_size, max_fields)
    method, target, fields, host, length, connection, close, later_length = common.groups()
    size = common.end()
    if size > max_size or fields.count(b"\n") > max_fields or method == b"CONNECT" or (length and later_length):
        return _careful(data, max_size, max_fields)
    special: list[Special] = []
    if connection is not None:
        start = common.start(6) - common.start(3)
        special.append((b"connection", b"", start, start + len(connection)))
    if length is None and (length := later_length) is None:
        return RequestHead(method, target, 1, fields, size, host, special, 0, close is None)
    return RequestHead(method, target, 1, fields, size, host, special, int(length), close is None)


def _check_beginning(data: bytes, max_size: int, max_fields: int) -> None:
    if not data:
        return
    if not _BEGINNING(data, 0, _LOOK_AT):
        raise _refusal(data)
    if len(data) > max_size:
        raise _too_large(data, max_size)
    # Before anything is searched for: many short lines make searching slow, and they come again with each piece.
    if data.count(b"\n") > max_fields + 2:  # an empty line and the request line come first
        raise bad_request(f"more than {max_fields} header fields", Reason.TOO_MANY_HEADERS)
    if b"\n\n" in data or (data.endswith(b"\n") and not data.endswith(b"\r\n")):
        raise bad_request("a bare LF")


def _too_large(data: bytes, max_size: int) -> Fault:
    line_end = data.find(b"\r\n", 2)
    if line_end < 0 or line_end > max_size:
        return bad_request("the request line alone is too long", Reason.TARGET_TOO_LONG)
    return bad_request("the head is too large", Reason.HEAD_TOO_LARGE)


def _refusal(data: bytes) -> Fault:
    """Why `data` is not the head of a request."""
    if data.startswith(b"\x16\x03"):
        return bad_request("a TLS handshake on a plain listener")
    if _OTHER_VERSION(data):
        return bad_request("a major version other than 1", Reason.VERSION_NOT_SUPPORTED)
    end = data.find(END, 1)
    objection = request_objection(data.removeprefix(b"\r\n") if end < 0 else data[: end + 4].removeprefix(b"\r\n"))
    return bad_request(objection or "bare LF or CR, folded line, control character or non-ASCII target")


def _careful(data: bytes, max_size: int, max_fields: int) -> RequestHead:
    """Everything that is valid but not common. Raises Fault for the rest."""
    found = _STRICT(data)
    if (found.end() if found else data.find(END, 1) + 4) > max_size:
        raise _too_large(data, max_size)
    if found is None:
        raise _refusal(data)
    method, target, major, minor_digit, fields = found.groups()
    if major != b"1":
        raise bad_request("a major version other than 1", Reason.VERSION_NOT_SUPPORTED)
    if method == b"CONNECT":
        raise bad_request("CONNECT", Reason.METHOD_NOT_ALLOWED)
    if fields.count(b"\n") > max_fields:
        raise bad_request(f"more than {max_fields} header fields", Reason.TOO_MANY_HEADERS)
    minor = 0 if minor_digit == b"0" else 1
    special = _special_lines(data, found.start(5), found.end(5))
    said = by_name(special)
    host = _host(said.get(b"host", []), minor)
    if not target.startswith(b"/") and target != b"*":
        target, host = _from_absolute(target, method)
        fields = _with_host(fields, special, host)
        special = _special_lines(b"\r\n" + fields, 2, len(fields) + 2)
    if target == b"*" and method != b"OPTIONS":
        raise bad_request("asterisk-form with a method other than OPTIONS")
    if data.startswith(b"\r\n") or minor_digit not in b"01" or found[2] != target:
        objection = request_objection(found[0].removeprefix(b"\r\n"))
        if objection:
            raise bad_request(objection)
    head = RequestHead(method, target, minor, fields, found.end(), host, special)
    _apply(head, said)
    return head


def _special_lines(data: bytes, start: int, end: int) -> list[Special]:
    """The special lines of the block of field lines data[start:end]; data[start-1] is the LF of the line before it."""
    return [
        (line[1].lower(), line[2].strip(b" \t"), line.start() + 1 - start, line.end() + 1 - start)
        for line in _SPECIAL(data, start - 1, end)
    ]


def _host(hosts: list[bytes], minor: int) -> bytes:
    if len(hosts) > 1:
        raise bad_request("Host repeated")
    if not hosts:
        if minor:
            raise bad_request("Host missing")
        return b""
    if not _HOST(hosts[0]):
        raise bad_request("Host is not a valid host")
    return hosts[0]


def _from_absolute(target: bytes, method: bytes) -> tuple[bytes, bytes]:
    """(origin-form or "*", authority) of a target in absolute-form (RFC 9112 3.2.2, 3.2.4)."""
    absolute = _ABSOLUTE(target)
    if absolute is None:
        raise bad_request("target is neither a path nor an http URL")
    authority, path = absolute.groups()
    if not _HOST(authority):
        raise bad_request("authority of the target is not a valid host")
    if not path and method == b"OPTIONS":
        return b"*", authority
    return path if path.startswith(b"/") else b"/" + path, authority


def _with_host(fields: bytes, special: list[Special], host: bytes) -> bytes:
    for name, _, start, end in special:
        if name == b"host":
            return b"%sHost: %s\r\n%s" % (fields[:start], host, fields[end:])
    return b"Host: %s\r\n%s" % (host, fields)


def _apply(head: RequestHead, said: dict[bytes, list[bytes]]) -> None:
    """Set what the special lines say. Raises Fault."""
    head.length = request_length(said.get(b"content-length", []), said.get(b"transfer-encoding", []), head.minor)
    options: list[bytes] = []
    if b"connection" in said:
        options = members(said[b"connection"])
        named = named_lines(head.fields, options)
        if named:
            head.special = sorted(head.special + named, key=lambda line: line[2])
    if head.minor == 0:
        head.keep_alive = b"close" not in options and b"keep-alive" in options
        return  # RFC 9110 7.8, 10.1.1: Upgrade and Expect of HTTP/1.0 are ignored
    head.keep_alive = b"close" not in options
    head.expects_continue = b"expect" in said and b"100-continue" in members(said[b"expect"])
    head.trailers_ok = b"te" in said and b"trailers" in members(said[b"te"])
    if b"upgrade" in said and b"upgrade" in options and head.length == 0:
        # h2c would open an HTTP/2 connection past every rule here (RFC 9113 3.1 has withdrawn it); ignoring is always allowed.
        protocols = members(said[b"upgrade"])
        if protocols and not any(protocol.startswith(b"h2c") for protocol in protocols):
            head.upgrade = b", ".join(said[b"upgrade"])
