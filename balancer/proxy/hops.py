"""How far a request may go: loops are seen by `Via`, and `Max-Forwards` is counted down (RFC 9110 7.6.2, 7.6.3)."""

import re
from typing import Final

from balancer.errors import Fault, Reason, Side
from balancer.http1.framing import bad_request
from balancer.http1.headers import field_values, own_hops
from balancer.http1.heads import RequestHead

# Balancers behind balancers all say "balancer": the fleet's edge, a machine's door, a service's own are three. Twice that is no
# design any more, and a loop gets there within milliseconds, also one that goes through several of us.
MAX_HOPS: Final = 6

COUNTED: Final = frozenset((b"OPTIONS", b"TRACE"))  # the methods for which Max-Forwards means something
_ALLOW: Final = b"Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE\r\n"
_LINE: Final = re.compile(rb"(?im)^Max-Forwards:[^\r\n]*\r\n")
_NUMBER: Final = re.compile(rb"[0-9]{1,18}").fullmatch
# RFC 9110 9.3.8: what a reflected request must not give away to a script that could not see it otherwise.
_SECRETS: Final = re.compile(rb"(?im)^(?:Cookie|Authorization|Proxy-Authorization|X-Api-Key)\s*:[^\r\n]*\r\n")


def check_loop(head: RequestHead) -> int:
    """How many balancers it has come through. Raises Fault (508) when they are too many."""
    hops = own_hops(head)
    if hops >= MAX_HOPS:
        raise Fault(Side.CLIENT, Reason.LOOP)
    return hops


def forwards_left(head: RequestHead) -> int | None:
    """What Max-Forwards of an OPTIONS or TRACE allows; None without one. Raises Fault (400) when it is no number."""
    found = field_values(head.fields, b"max-forwards")
    if not found:
        return None
    if len(found) > 1 or not _NUMBER(found[0]):
        raise bad_request("malformed Max-Forwards")
    return int(found[0])


def counted_down(head: RequestHead, fields: bytes) -> bytes:
    """`fields`, lines of that head that are to be forwarded, with one forward less where they are counted."""
    left = forwards_left(head)
    return fields if left is None else _LINE.sub(b"Max-Forwards: %d\r\n" % (left - 1), fields)


def last_answer(head: RequestHead) -> tuple[bytes, bytes]:
    """(field lines, body) of the 200 with which the last recipient answers: OPTIONS says what there is, TRACE what came."""
    if head.method == b"OPTIONS":
        return _ALLOW + b"Content-Length: 0\r\n", b""
    fields = _SECRETS.sub(b"", head.fields)
    body = b"TRACE %s HTTP/1.%d\r\n%s\r\n" % (head.target, head.minor, fields)
    return b"Content-Type: message/http\r\nContent-Length: %d\r\n" % len(body), body
