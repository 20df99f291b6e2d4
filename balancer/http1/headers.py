"""Header fields as a proxy passes them on: the block of lines as it came, without what must not travel, and what is added."""

import re
from functools import lru_cache

from balancer.http1.framing import Special, values
from balancer.http1.grammar import HOP_BY_HOP, VALUE, any_case
from balancer.http1.heads import RequestHead
from balancer.http1.responses import ResponseHead

DEFAULT_ID_HEADER = b"x-request-id"
_EXTENDED = frozenset((b"x-forwarded-for", b"forwarded", b"via"))
# Believed of nobody: a proxy that knows nothing of RFC 9440 passes on what its own clients claim.
_IDENTITY = frozenset((b"client-cert", b"client-cert-chain"))
_FIT_ID = re.compile(rb"[\x21-\x7e]{1,128}").fullmatch
_OWN_HOP = re.compile(rb"(?:[Hh][Tt][Tt][Pp]/)?[0-9](?:\.[0-9])?[ \t]+balancer(?:[ \t].*)?", re.DOTALL).fullmatch
_TOKEN_HOST = re.compile(rb"[A-Za-z0-9._~\-]+").fullmatch


def upstream_fields(
    head: RequestHead, keep_forwarded: bool, keep_host: bool, id_header: bytes, keep_expect: bool = True
) -> bytes:
    """`head.fields` as a backend gets them; the same object when nothing has to go.

    Without hop-by-hop fields and those that Connection names (RFC 9110 7.6.1). The caller adds Transfer-Encoding or
    Connection and Upgrade where it means them; "TE: trailers" is put back here. Content-Length, Host and Trailer stay.
    keep_forwarded: the client is a trusted proxy: only what `extended_block` writes anew is removed, else every
    X-Forwarded-*, X-Real-IP, Forwarded and Via line, and the request id's.
    keep_host: false removes Host. An HTTP/1.0 request may have none: then the caller adds one.
    id_header: lower case. A kept request id that is repeated or unfit (`request_id`) is removed too.
    keep_expect: false removes Expect, for a caller that answers 100 itself.
    """
    fields = head.fields
    special = head.special
    if id_header != DEFAULT_ID_HEADER:
        special = _with_lines(fields, special, id_header)
    if not keep_host:
        special = _with_lines(fields, special, b"host")
    if not special:
        return fields
    pieces = []
    at = 0
    for name, _, start, end in special:
        if name not in HOP_BY_HOP and _stays(head, name, keep_forwarded, keep_host, id_header, keep_expect):
            continue
        pieces.append(fields[at:start])  # nothing where one line is there twice
        at = end
    if not at:
        return fields
    pieces.append(fields[at:])
    if head.trailers_ok and not head.upgrade:
        pieces.append(b"TE: trailers\r\nConnection: TE\r\n")
    return b"".join(pieces)


def _stays(
    head: RequestHead, name: bytes, keep_forwarded: bool, keep_host: bool, id_header: bytes, keep_expect: bool
) -> bool:
    """Whether a special line that is not hop-by-hop goes to the backend."""
    if name == b"host":
        return keep_host
    if name == b"expect":
        return keep_expect
    if name == id_header:
        return keep_forwarded and request_id(head, id_header) != b""
    if name == b"content-length" or name == DEFAULT_ID_HEADER:
        return True
    # The rest speaks of who forwarded; with an underscore it is nobody's legitimate spelling.
    return keep_forwarded and name not in _EXTENDED and name not in _IDENTITY and b"_" not in name


@lru_cache(maxsize=64)
def _finder(name: bytes) -> re.Pattern[bytes]:
    return re.compile(rb"(?:\A|(?<=\n))" + any_case(name) + rb":(" + VALUE + rb")\r\n")


def _with_lines(fields: bytes, special: list[Special], name: bytes) -> list[Special]:
    found = [(name, line[1].strip(b" \t"), line.start(), line.end()) for line in _finder(name).finditer(fields)]
    return sorted([line for line in special if line[0] != name] + found, key=lambda line: line[2]) if found else special


def field_values(fields: bytes, name: bytes) -> list[bytes]:
    """The values of every line called `name` (lower case) in a block of field lines, in order. Not for the hot path."""
    return [line[1].strip(b" \t") for line in _finder(name).finditer(fields)]


def request_id(head: RequestHead, id_header: bytes) -> bytes:
    """The client's own request id; b"" if absent, repeated or unfit: 1 to 128 visible ASCII characters are fit."""
    if id_header != DEFAULT_ID_HEADER:
        found = field_values(head.fields, id_header)
    elif head.special:
        found = values(head.special, id_header)
    else:
        return b""
    return found[0] if len(found) == 1 and _FIT_ID(found[0]) else b""


def forwarded_for(head: RequestHead) -> bytes | None:
    """What X-Forwarded-For says so far, all its lines as one list; None without one."""
    found = values(head.special, b"x-forwarded-for")
    return b", ".join(found) if found else None


def own_hops(head: RequestHead) -> int:
    """How many balancers the request has come through, by the names in Via."""
    said = values(head.special, b"via")
    return sum(_OWN_HOP(hop.strip(b" \t")) is not None for hop in b",".join(said).split(b",")) if said else 0


@lru_cache(maxsize=256)
def forwarded_block(client_ip: str, proto: bytes, host: bytes, hops: int = 0) -> bytes:
    """The lines that tell a backend who asked, when nobody before us is believed.

    client_ip: without brackets or port; "" when the client has no address (a Unix socket). proto: b"http" or b"https".
    host: as the client sent it; b"" leaves X-Forwarded-Host out. hops: balancers before us, see `own_hops`; they stay in Via,
    trusted or not, because by their number a loop is found.
    """
    address = client_ip.encode("ascii")
    lines = [b"X-Forwarded-For: %s\r\n" % address] if address else []
    lines.append(b"X-Forwarded-Proto: %s\r\n" % proto)
    if host:
        lines.append(b"X-Forwarded-Host: %s\r\n" % host)
    via = b", ".join([b"1.1 balancer"] * (hops + 1))
    lines.append(b"Forwarded: %s\r\nVia: %s\r\n" % (_forwarded_element(address, proto, host), via))
    return b"".join(lines)


def extended_block(head: RequestHead, client_ip: str, proto: bytes, host: bytes) -> bytes:
    """The same when the client is a trusted proxy: its lists go on with us at the end, its Proto and Host stay as they are."""
    special = head.special
    address = client_ip.encode("ascii")
    hops = [*values(special, b"x-forwarded-for"), *([address] if address else [])]
    lines = [b"X-Forwarded-For: %s\r\n" % b", ".join(hops)] if hops else []
    if not values(special, b"x-forwarded-proto"):
        lines.append(b"X-Forwarded-Proto: %s\r\n" % proto)
    if host and not values(special, b"x-forwarded-host"):
        lines.append(b"X-Forwarded-Host: %s\r\n" % host)
    elements = [*values(special, b"forwarded"), _forwarded_element(address, proto, host)]
    via = [*values(special, b"via"), b"%s balancer" % (b"1.1" if head.minor else b"1.0")]
    lines.append(b"Forwarded: %s\r\nVia: %s\r\n" % (b", ".join(elements), b", ".join(via)))
    return b"".join(lines)


def _forwarded_element(address: bytes, proto: bytes, host: bytes) -> bytes:
    """One element of Forwarded (RFC 7239 4, 6): IPv6 in brackets and quotes, a host that is no token in quotes."""
    node = b'"[%s]"' % address if b":" in address else address or b"unknown"
    if not host:
        return b"for=%s;proto=%s" % (node, proto)
    return b"for=%s;host=%s;proto=%s" % (node, host if _TOKEN_HOST(host) else b'"%s"' % host, proto)


def downstream_fields(head: ResponseHead, server_header: bytes | None = None) -> bytes:
    """`head.fields` as the client gets them: without hop-by-hop fields and those that Connection names.

    The sender adds Transfer-Encoding or, after a 101, Connection and Upgrade; a 426 keeps its Upgrade, without which it says
    nothing (RFC 9110 15.5.22). A 1xx or 204 loses Content-Length, which it must not have (RFC 9110 8.6).
    server_header: None passes the backend's Server on, b"" removes it, anything else replaces it.
    """
    fields = head.fields
    special = head.special
    if server_header is not None:
        special = _with_lines(fields, special, b"server")
    if not special and not server_header:
        return fields
    no_length = head.status == 204 or head.status < 200
    pieces = []
    at = 0
    for name, _, start, end in special:
        if name == b"content-length" and not no_length:
            continue
        pieces.append(fields[at:start])  # nothing where one line is there twice
        at = end
    pieces.append(fields[at:])
    if server_header:
        pieces.append(b"Server: %s\r\n" % server_header)
    if head.status == 426:
        pieces += [b"Upgrade: %s\r\nConnection: upgrade\r\n" % value for value in values(special, b"upgrade")]
    return b"".join(pieces)
