"""What ties a request to a backend: a key for the policy "hash", or a cookie that names a slot."""

import hmac
from collections.abc import Callable
from hashlib import sha256
from re import compile as pattern
from typing import Final

from balancer.http1.headers import field_values
from balancer.http1.heads import RequestHead
from balancer.pool.snapshot import PoolPicture

_COOKIE: Final = pattern(rb"(?:^|;)[ \t]*([^=;, \t]+)=([^;]*)")

KeyOf = Callable[[RequestHead, str], bytes]  # (request, client address) -> key


def key_finder(hash_on: str) -> KeyOf:
    """How the key is found: "client-ip", "uri", "header:NAME" or "cookie:NAME". A request without one has the key b""."""
    kind, _, name = hash_on.partition(":")
    if kind == "client-ip":
        return lambda head, address: address.encode()
    if kind == "uri":
        return lambda head, address: head.target
    wanted = name.encode("latin-1")
    if kind == "header":
        lower = wanted.lower()
        return lambda head, address: b",".join(field_values(head.fields, lower))
    return lambda head, address: cookie(head, wanted)


def cookie(head: RequestHead, name: bytes) -> bytes:
    """The value of the first cookie of that name; b"" without one."""
    for line in field_values(head.fields, b"cookie"):
        for found in _COOKIE.finditer(line):
            if found[1] == name:
                return found[2].strip(b' \t"')
    return b""


class Sticky:
    """A pool's cookie: it names the slot, not the process, so that a client comes back to the same slot after a restart (F15).

    Signed, so that nobody can aim requests at a slot of their choice. There are as many valid values as slots: each is computed once.
    """

    def __init__(self, picture: PoolPicture) -> None:
        self._name = picture.sticky_cookie.encode("ascii")
        self._attributes = picture.sticky_attributes.encode("latin-1")
        self._values: dict[str, bytes] = {}
        self._slots: dict[bytes, str] = {}
        key = bytes.fromhex(picture.sticky_key)
        for backend in picture.backends:
            signature = hmac.new(key, f"{picture.name} {backend.name}".encode(), sha256).hexdigest()[:20]
            value = f"{backend.name}.{signature}".encode()
            self._values[backend.name] = value
            self._slots[value] = backend.name

    def slot(self, head: RequestHead) -> str:
        """The slot that the client is bound to; "" for none, or for a cookie that we did not make."""
        return self._slots.get(cookie(head, self._name), "")

    def line(self, slot: str) -> bytes:
        """The Set-Cookie line that binds a client to this slot, with its CRLF."""
        attributes = b"; " + self._attributes if self._attributes else b""
        return b"Set-Cookie: %s=%s%s\r\n" % (self._name, self._values.get(slot, b""), attributes)
