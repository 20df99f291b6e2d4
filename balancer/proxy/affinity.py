"""What ties a request to a backend: a key for the policy "hash", a cookie that names a slot, a rule that names a group."""

import hmac
from collections.abc import Callable
from hashlib import sha256
from re import compile as pattern
from typing import Final, NamedTuple

from balancer.http1.headers import field_values
from balancer.http1.heads import RequestHead
from balancer.pool.snapshot import GroupPicture, PoolPicture

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


class Wish(NamedTuple):
    """What one request asks of the choice."""

    key: bytes = b""  # for the policy "hash"
    slot: str = ""  # that the client is bound to
    group: str = ""  # that a rule sends it to


NOTHING: Final = Wish()


class Wishes:
    """How a pool's requests say what they wish."""

    def __init__(self, picture: PoolPicture) -> None:
        self.sticky = Sticky(picture) if picture.sticky_cookie else None
        self._key_of = key_finder(picture.hash_on) if picture.policy == "hash" else None
        self._rules = [(rule.name, _condition(rule)) for rule in picture.groups if rule.header or rule.cookie]

    @property
    def are_any(self) -> bool:
        """Whether there is anything to look for."""
        return bool(self.sticky or self._key_of or self._rules)

    def of(self, head: RequestHead, address: str) -> Wish:
        """What this request wishes; address: the client's."""
        return Wish(
            self._key_of(head, address) if self._key_of is not None else b"",
            self.sticky.slot(head) if self.sticky is not None else "",
            next((name for name, holds in self._rules if holds(head)), ""),
        )


def _condition(rule: GroupPicture) -> Callable[[RequestHead], bool]:
    name, _, value = rule.header.partition(":")
    wanted, value_wanted = name.strip().lower().encode("latin-1"), value.strip().encode("latin-1")
    cookie_name, has_value, cookie_value = rule.cookie.partition("=")

    def holds(head: RequestHead) -> bool:
        if wanted:
            found = field_values(head.fields, wanted)
            if value_wanted in found if value_wanted else found:
                return True
        if not cookie_name:
            return False
        found_cookie = cookie(head, cookie_name.encode("latin-1"))
        return found_cookie == cookie_value.encode("latin-1") if has_value else bool(found_cookie)

    return holds
