"""Response heads: recognised whole, or refused. The same three steps as for requests in `heads.py`."""

import re

from balancer.errors import Fault
from balancer.http1.authority import response_objection
from balancer.http1.framing import (
    CHUNKED,
    UNTIL_CLOSE,
    Special,
    bad_response,
    by_name,
    members,
    named_lines,
    response_length,
)
from balancer.http1.grammar import CONTENT_LENGTH, LINE, LINES, OWS, RESPONSE_NAME, VALUE, any_case

END = b"\r\n\r\n"
_LOOK_AT = 1024  # bytes of an incomplete head: asking again after each small piece must stay cheap

_PLAIN = rb"(?:(?!" + RESPONSE_NAME + rb":)" + LINE + rb")*+"
_LENGTH_LINE = any_case(b"content-length:") + OWS + rb"(" + CONTENT_LENGTH + rb")" + OWS + rb"\r\n"
_COMMON = re.compile(
    rb"HTTP/1\.1 ([2-5][0-9][0-9]) (" + VALUE + rb")\r\n(" + _PLAIN
    + rb"(?:" + _LENGTH_LINE + _PLAIN + rb")?"
    + rb"(?:(" + any_case(b"connection:") + OWS
    + rb"(?:" + any_case(b"keep-alive") + rb"|(" + any_case(b"close") + rb"))" + OWS + rb"\r\n"
    + rb"(?:" + any_case(b"keep-alive:") + VALUE + rb"\r\n)?+)" + _PLAIN + rb")?"
    + rb"(?:(?:" + _LENGTH_LINE
    + rb"|(" + any_case(b"transfer-encoding:") + OWS + any_case(b"chunked") + OWS + rb"\r\n))" + _PLAIN + rb")?"
    + rb")\r\n"
).match  # fmt: skip
_STRICT = re.compile(rb"HTTP/1\.([0-9]) ([1-9][0-9][0-9])(?: (" + VALUE + rb"))?\r\n(" + LINES + rb")\r\n").match
_SPECIAL = re.compile(rb"\n(" + RESPONSE_NAME + rb"):(" + VALUE + rb")\r").finditer
_BEGINNING = re.compile(
    rb"(?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[0-9](?: (?:[1-9](?:[0-9](?:[0-9](?: " + VALUE
    + rb")?+(?:\r\n|\r?\Z)|\Z)|\Z)|\Z)|\Z)|\Z)|\Z)|\Z)|\Z)|\Z)|\Z)|\Z))"
).match  # fmt: skip


class ResponseHead:
    """What a proxy must know of a response's head.

    minor: 0 or 1; status: 100 to 999; reason: may be empty; fields: the field lines as received, each with its CRLF.
    size: bytes of the buffer that the head took, the final CRLFCRLF included.
    length: of the body: 0, bytes, CHUNKED or UNTIL_CLOSE.
    keep_alive: whether the backend's connection may be used again after this message.
    upgrade: value of Upgrade in a 101 response; else b"".
    special: the lines that must be cut, in order (`framing.Special`).
    """

    __slots__ = ("fields", "keep_alive", "length", "minor", "reason", "size", "special", "status", "upgrade")

    def __init__(
        self,
        minor: int,
        status: int,
        reason: bytes,
        fields: bytes,
        size: int,
        length: int,
        keep_alive: bool,
        special: list[Special],
        upgrade: bytes = b"",
    ) -> None:
        self.minor = minor
        self.status = status
        self.reason = reason
        self.fields = fields
        self.size = size
        self.length = length
        self.keep_alive = keep_alive
        self.special = special
        self.upgrade = upgrade


def parse_response(data: bytes, method: bytes, max_size: int, max_fields: int) -> ResponseHead | None:
    """Recognise the response head at the start of `data`, an answer to `method`; None while it is incomplete.

    1xx responses are returned like any other. Raises Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND).
    """
    common = _COMMON(data)
    if common is None or method == b"HEAD":
        return _careful(data, method, max_size, max_fields)
    status, reason, fields, length, connection, close, later_length, chunked = common.groups()
    size = common.end()
    if (
        size > max_size
        or fields.count(b"\n") > max_fields
        or status == b"204"
        or status == b"304"
        or (length is not None and (later_length is not None or chunked is not None))
    ):
        return _careful(data, method, max_size, max_fields)
    special: list[Special] = []
    if connection is not None:
        start = common.start(5) - common.start(3)
        special.append((b"connection", b"", start, start + len(connection)))
    if length is not None:
        return ResponseHead(1, int(status), reason, fields, size, int(length), close is None, special)
    if later_length is not None:
        return ResponseHead(1, int(status), reason, fields, size, int(later_length), close is None, special)
    if chunked is not None:
        start = common.start(8) - common.start(3)
        special.append((b"transfer-encoding", b"chunked", start, start + len(chunked)))
        return ResponseHead(1, int(status), reason, fields, size, CHUNKED, close is None, special)
    return ResponseHead(1, int(status), reason, fields, size, UNTIL_CLOSE, False, special)


def _check_beginning(data: bytes, max_size: int) -> None:
    if not _BEGINNING(data, 0, _LOOK_AT):
        raise _refusal(data)
    if b"\n\n" in data or (data.endswith(b"\n") and not data.endswith(b"\r\n")):
        raise bad_response("a bare LF")
    if len(data) > max_size:
        raise bad_response("the head is too large")


def _refusal(data: bytes) -> Fault:
    end = data.find(END)
    objection = response_objection(data if end < 0 else data[: end + 4])
    return bad_response(objection or "bare LF or CR, folded line or control character")


def _careful(data: bytes, method: bytes, max_size: int, max_fields: int) -> ResponseHead | None:
    """Everything that is valid but not common. Raises Fault for the rest."""
    found = _STRICT(data)
    if found is None:
        if END in data:
            raise _refusal(data)
        if data:
            _check_beginning(data, max_size)
        return None
    minor_digit, status_digits, reason, fields = found.groups()
    if found.end() > max_size:
        raise bad_response("the head is too large")
    if fields.count(b"\n") > max_fields:
        raise bad_response(f"more than {max_fields} header fields")
    base = found.start(4)
    special: list[Special] = [
        (line[1].lower(), line[2].strip(b" \t"), line.start() + 1 - base, line.end() + 1 - base)
        for line in _SPECIAL(data, base - 1, found.end(4))
    ]
    minor = 0 if minor_digit == b"0" else 1
    status = int(status_digits)
    found_values = by_name(special)
    length = response_length(
        found_values.get(b"content-length", []), found_values.get(b"transfer-encoding", []), minor, status, method
    )
    options = members(found_values.get(b"connection", []))
    keep_alive = b"close" not in options and (minor == 1 or b"keep-alive" in options) and length != UNTIL_CLOSE
    named = named_lines(fields, options) if options else []
    if named:
        special = sorted(special + named, key=lambda line: line[2])
    upgrade = b", ".join(found_values.get(b"upgrade", [])) if status == 101 and b"upgrade" in options else b""
    return ResponseHead(minor, status, reason or b"", fields, found.end(), length, keep_alive, special, upgrade)
