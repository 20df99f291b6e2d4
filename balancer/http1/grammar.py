"""The pieces of HTTP/1.1 syntax that the recognisers are made of, and the names that mean something to a proxy.

Only the strict syntax of RFC 9110 and 9112: no bare LF or CR, no obs-fold, no space before a colon, no control characters.
Everything is possessive, so that no input makes a match slow; and nothing captures inside a possessive repeat, because
CPython 3.11 loses track of such groups ("The span of capturing group is wrong").
"""

import re

TCHAR = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
TOKEN = TCHAR + rb"++"
VALUE = rb"[\t\x20-\x7e\x80-\xff]*+"  # RFC 9110 5.5: HTAB, SP, VCHAR, obs-text; outer OWS included
OWS = rb"[\t ]*+"
LINE = TOKEN + rb":" + VALUE + rb"\r\n"
LINES = rb"(?:" + LINE + rb")*+"

# Visible ASCII without "#". Raw bytes above 0x7e are no URI (RFC 3986) and are read differently by different servers
# (Latin-1, UTF-8, normalised); HAProxy refuses them and fragments too, nginx lets both pass.
TARGET_CHAR = rb"[\x21\x22\x24-\x7e]"

# Narrower than RFC 3986's reg-name, which also takes sub-delims and percent-encoding: "a,b" or "a%2eb" as a host is read
# differently by those who split lists or decode. DNS names, IPv4 and bracketed IPv6 are what is left; an empty host is
# invalid for http (RFC 9110 4.2.1). 255 octets are the longest name DNS can hold.
HOST = rb"(?:[A-Za-z0-9._~\-]{1,255}+|\[[0-9A-Fa-f:.]{2,45}+\])(?::[0-9]{0,5}+)?+"

CONTENT_LENGTH = rb"(?:0|[1-9][0-9]{0,17}+)"  # below 2**63; a leading zero could be read as octal


def any_case(name: bytes) -> bytes:
    """A pattern for `name` in any case. Its first letter as a class, because the engine has no quick checks for ignored case."""
    first = name[:1]
    head = b"[%s%s]" % (first.lower(), first.upper()) if first.isalpha() else re.escape(first)
    return head + rb"(?i:" + re.escape(name[1:]) + rb")" if name[1:] else head


def _names(*names: str) -> bytes:
    """A pattern for any of the names, told apart by their first letter first: most lines fail there."""
    by_letter: dict[str, list[bytes]] = {}
    for name in sorted(names, reverse=True):  # a name before its own prefixes
        rest = rb"(?i:" + re.escape(name[1:].encode()).replace(rb"\-", rb"[-_]").replace(rb"\*", TCHAR + rb"*+") + rb")"
        by_letter.setdefault(name[0], []).append(rest)
    letters = "".join(by_letter)
    branches = [any_case(letter.encode()) + rb"(?:" + rb"|".join(rests) + rb")" for letter, rests in by_letter.items()]
    return rb"(?=[" + (letters + letters.upper()).encode() + rb"])(?:" + rb"|".join(branches) + rb")"


# An underscore counts as a hyphen: CGI and WSGI spell both X_FORWARDED_FOR, so the twin could speak for the real one.
REQUEST_NAME = _names(
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "upgrade",
    "expect",
    "keep-alive",
    "proxy",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
    "forwarded",
    "via",
    "x-forwarded-*",
    "x-real-ip",
    "x-request-id",
    "client-cert",
    "client-cert-chain",
)
RESPONSE_NAME = _names(
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "upgrade",
    "keep-alive",
    "proxy-connection",
    "proxy-authorization",
    "proxy-authenticate",
    "proxy-authentication-info",
)

# Never forwarded as they come (RFC 9110 7.6.1, 11.7). "Proxy" is no header at all, but CGI programs read it as HTTP_PROXY.
HOP_BY_HOP = frozenset(
    (
        b"connection",
        b"keep-alive",
        b"proxy-connection",
        b"te",
        b"transfer-encoding",
        b"upgrade",
        b"proxy",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-authentication-info",
    )
)
# What a Connection option cannot take away: framing and routing are ours, and who sent the request is not the client's to erase.
KEPT_FROM_CONNECTION = frozenset(
    (b"host", b"content-length", b"transfer-encoding", b"forwarded", b"via", b"x-real-ip", b"x-request-id")
)
