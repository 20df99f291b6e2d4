"""What one client may: connections and requests per address, and which networks may come at all.

Exact within a proxy process. Each process holds an address to the whole limit, because the kernel spreads connections over the
processes by hash: a share of the limit would refuse a client that keeps to it on one connection. So with N processes an
address that spreads its connections gets up to N times the limit, and nobody ever less than it. A client without an
address (on a Unix socket) is held to nothing here: the permissions of the socket say who may come.
"""

from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from math import ceil
from typing import Final

from balancer.pool.snapshot import LimitPicture, ListenerPicture

REMEMBERED: Final = 65536  # addresses whose rate is watched; beyond, who was seen least recently is forgotten
_FORGET: Final = REMEMBERED // 8  # at once: looking for them costs a pass over all

Network = IPv4Network | IPv6Network


class Limits:
    """The limits of one listener, kept over reloads."""

    def __init__(self, picture: LimitPicture) -> None:
        self._open: dict[str, int] = {}  # connections by key
        self._full_at: dict[
            str, float
        ] = {}  # by key: when its bucket will be full again; who is not in it has a full one
        self.update(picture)

    def update(self, picture: LimitPicture) -> None:
        """Take over newer settings; what is open and what was spent stays counted."""
        self._connections = picture.connections
        self._interval = 1 / picture.rate if picture.rate else 0.0
        burst = picture.burst or max(1, int(picture.rate))
        self._depth = (burst - 1) * self._interval  # seconds that a bucket may be from full and still give
        self._allow = networks(picture.allow)
        self._deny = networks(picture.deny)

    def is_denied(self, address: str) -> bool:
        """Whether this address may not come: it is on the deny list, or there is an allow list without it."""
        if not address:
            return False
        return is_within(address, self._deny) or bool(self._allow and not is_within(address, self._allow))

    def enter(self, address: str) -> None:
        """One more connection, counted until `leave`."""
        if address:
            key = client_key(address)
            self._open[key] = self._open.get(key, 0) + 1

    def excess(self, address: str) -> float:
        """How far its connections, the newest included, are over the limit, as a share of it; 0 when they are not."""
        if not self._connections or not address:
            return 0.0
        return max(0.0, self._open[client_key(address)] / self._connections - 1)

    def leave(self, address: str) -> None:
        """A connection that was counted has ended."""
        if not address:
            return
        key = client_key(address)
        count = self._open[key] - 1
        if count:
            self._open[key] = count
        else:
            del self._open[key]

    def take(self, address: str, now: float) -> int:
        """Take a token for one request: 0 if there was one, else the seconds until there will be, at least 1.

        A token bucket in the form of the generic cell rate algorithm (ITU-T I.371): one number per address.
        """
        interval = self._interval
        if not interval or not address:
            return 0
        full_at = self._full_at
        key = client_key(address)
        debt = full_at.pop(key, now) - now  # taken out and put back: the order is that of the last request
        if debt > self._depth:
            full_at[key] = now + debt
            return max(1, ceil(debt - self._depth))
        if len(full_at) >= REMEMBERED:
            self._forget(now)
        full_at[key] = now + max(debt, 0.0) + interval
        return 0

    def _forget(self, now: float) -> None:
        full_at = self._full_at
        full = [key for key, at in full_at.items() if at <= now]
        for key in full if len(full) >= _FORGET else list(full_at)[:_FORGET]:
            del full_at[key]


def renewed(old: dict[str, Limits], listeners: tuple[ListenerPicture, ...]) -> dict[str, Limits]:
    """The limits by listener as a snapshot says; those that stay keep their counts."""
    found = {}
    for listener in listeners:
        if listener.limit is not None:
            limits = old.get(listener.name)
            if limits is None:
                limits = Limits(listener.limit)
            else:
                limits.update(listener.limit)
            found[listener.name] = limits
    return found


@lru_cache(maxsize=4096)
def client_key(address: str) -> str:
    """What clients are told apart by: the IPv4 address, or the /64 of an IPv6 one, all of which one client has (RFC 6177)."""
    if ":" not in address:
        return address
    return str(ip_network((int(ip_address(address)) >> 64 << 64, 64)))


@lru_cache(maxsize=64)
def networks(written: tuple[str, ...]) -> tuple[Network, ...]:
    """Addresses and CIDRs as networks."""
    return tuple(ip_network(network, strict=False) for network in written)


def is_within(address: str, among: tuple[Network, ...]) -> bool:
    """Whether the address is in one of the networks."""
    if not among:
        return False
    parsed = ip_address(address)
    return any(parsed in network for network in among)
