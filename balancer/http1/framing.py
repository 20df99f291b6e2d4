"""Where a message's body ends (RFC 9112 section 6), decided from its special field lines; and what they mean otherwise.

A special line is `(name, value, start, end)`: name in lower case, value without outer whitespace, start and end of the whole
line, CRLF included, within the block of field lines.
"""

import re

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.grammar import CONTENT_LENGTH, HOP_BY_HOP, KEPT_FROM_CONNECTION, TOKEN

CHUNKED = -1
UNTIL_CLOSE = -2

Special = tuple[bytes, bytes, int, int]

_LENGTH = re.compile(CONTENT_LENGTH)
_NOT_NAMED = (
    HOP_BY_HOP | KEPT_FROM_CONNECTION | {b"close"}
)  # those that leave anyway, those that must not, and no field at all
_CODING = re.compile(TOKEN + rb"(?:[\t ]*+;.*+)?+", re.DOTALL)


def bad_request(detail: str, reason: Reason = Reason.BAD_REQUEST) -> Fault:
    """A fault of the client, found before anything was sent to a backend."""
    return Fault(Side.CLIENT, reason, Moment.BEFORE_SEND, detail)


def bad_response(detail: str) -> Fault:
    """A fault of the backend: what it sent is not the head of a response that may be passed on."""
    return Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND, detail)


def values(special: list[Special], name: bytes) -> list[bytes]:
    """The values of every special line called `name`, in order."""
    return [line[1] for line in special if line[0] == name]


def by_name(special: list[Special]) -> dict[bytes, list[bytes]]:
    """The same for all names at once."""
    found: dict[bytes, list[bytes]] = {}
    for name, value, _, _ in special:
        if name in found:
            found[name].append(value)
        else:
            found[name] = [value]
    return found


def members(listed: list[bytes]) -> list[bytes]:
    """The members of a list field over all its values, in lower case, empty ones left out (RFC 9110 5.6.1)."""
    if len(listed) == 1 and b"," not in listed[0]:
        return [listed[0].lower()] if listed[0] else []
    found = [member.strip(b" \t") for member in b",".join(listed).lower().split(b",")]
    return [member for member in found if member]


def request_length(lengths: list[bytes], codings: list[bytes], minor: int) -> int:
    """0, a number of bytes, or CHUNKED, from the values of Content-Length and Transfer-Encoding.

    Raises Fault on everything that two parsers could read differently (RFC 9112 6.1, 6.3).
    """
    if codings:
        if lengths:
            raise bad_request("Content-Length with Transfer-Encoding")
        if minor == 0:
            raise bad_request("Transfer-Encoding in HTTP/1.0")
        if len(codings) == 1 and codings[0].lower() == b"chunked":
            return CHUNKED
        listed = [coding.strip(b" \t") for coding in b",".join(codings).lower().split(b",")]
        if any(not _CODING.fullmatch(coding) for coding in listed):
            raise bad_request("malformed Transfer-Encoding")
        if all(coding.partition(b";")[0].rstrip(b" \t") == b"chunked" for coding in listed):
            raise bad_request("Transfer-Encoding is more than one plain chunked")
        raise bad_request("transfer coding other than chunked", Reason.UNKNOWN_TRANSFER_CODING)
    if not lengths:
        return 0
    if len(lengths) > 1:
        raise bad_request("Content-Length repeated")
    if not _LENGTH.fullmatch(lengths[0]):
        raise bad_request("malformed Content-Length")
    return int(lengths[0])


def response_length(lengths: list[bytes], codings: list[bytes], minor: int, status: int, method: bytes) -> int:
    """0, a number of bytes, CHUNKED or UNTIL_CLOSE (RFC 9112 6.3), from the same two fields of a response. Raises Fault."""
    if codings:
        if lengths:
            raise bad_response("Content-Length with Transfer-Encoding")
        if minor == 0:
            raise bad_response("Transfer-Encoding in HTTP/1.0")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            raise bad_response("Transfer-Encoding is not one plain chunked")
    if len(lengths) > 1:
        raise bad_response("Content-Length repeated")
    if lengths and not _LENGTH.fullmatch(lengths[0]):
        raise bad_response("malformed Content-Length")
    if method == b"HEAD" or status < 200 or status in (204, 304):
        return 0
    if codings:
        return CHUNKED
    return int(lengths[0]) if lengths else UNTIL_CLOSE


def named_lines(fields: bytes, options: list[bytes]) -> list[Special]:
    """The lines that Connection options name, as special lines called "connection", so that they leave with it (RFC 9110 7.6.1)."""
    doomed = {name for name in options if name not in _NOT_NAMED and not name.startswith(b"x-forwarded-")}
    if not doomed:
        return []
    found: list[Special] = []
    start = 0
    while start < len(fields):
        end = fields.index(b"\r\n", start) + 2
        if fields[start : fields.index(b":", start)].lower() in doomed:
            found.append((b"connection", b"", start, end))
        start = end
    return found
