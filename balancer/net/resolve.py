"""What a name means: its addresses, and for how long that holds. The only door to dnspython.

As the system's own resolver does, the hosts file is looked at first, then DNS is asked: A and AAAA, or SRV with its
targets' addresses (RFC 2782). Neither needs a thread, and both tell a time after which to look again.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from ipaddress import ip_address
from math import gcd, inf
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import trio

from balancer.errors import BalancerError

if TYPE_CHECKING:
    import dns.resolver

HOSTS: Final = Path("/etc/hosts")
HOSTS_FOR: Final = 30.0  # seconds for which an entry of the hosts file is taken to hold: nothing says so there
_LOOPBACK: Final = ("127.0.0.1", "::1")
_LARGEST_WEIGHT: Final = 1000


class NotResolved(BalancerError):
    """Nothing is known of the name now; the text says why."""


class Endpoint(NamedTuple):
    """Where something listens. weight, is_backup: as an SRV record has them, relative to the others."""

    host: str  # an IP address
    port: int
    weight: int = 1
    is_backup: bool = False


class Answer(NamedTuple):
    """At least one endpoint, sorted; `ttl`: seconds until it should be looked up again."""

    endpoints: tuple[Endpoint, ...]
    ttl: float


@dataclass(frozen=True, slots=True)
class Asking:
    """Whom to ask, and for what.

    servers: (IP address, port) each; none: those of /etc/resolv.conf. timeout: seconds for one question with all its tries. family:
    "auto" (IPv4, and IPv6 for a name without any), "ipv4", "ipv6", "all".
    """

    servers: tuple[tuple[str, int], ...] = ()
    timeout: float = 5.0
    family: str = "auto"


def is_localhost(name: str) -> bool:
    """Whether it is this machine whatever anybody says (RFC 6761 6.3). Its two addresses are two ways to one server."""
    return name.rstrip(".").lower().rpartition(".")[2] == "localhost"


async def look_up(name: str, port: int, asking: Asking, hosts: Path = HOSTS) -> Answer:
    """The addresses of a name, each with `port`. Raises NotResolved."""
    known = _LOOPBACK if is_localhost(name) else _in_hosts(name, hosts)
    if known:
        family = "all" if is_localhost(name) and asking.family == "auto" else asking.family
        found, ttl = _of_family(known, family), HOSTS_FOR
        if not found:
            raise NotResolved(f"{name} has no address of family {asking.family} in {hosts}")
    else:
        found, ttl = await _addresses(name, asking)
    return Answer(tuple(sorted({Endpoint(host, port) for host in found})), ttl)


async def look_up_service(name: str, asking: Asking, hosts: Path = HOSTS) -> Answer:
    """The endpoints that the SRV records of a name lead to. Raises NotResolved.

    Those of the best priority are the ones to use, all others are backups. A target without an address is left out.
    """
    answer = await _ask(name, "SRV", asking)
    records = [record for record in answer if str(record.target) != "."]
    if not records:
        raise NotResolved(f"{name}: the service is not offered")
    best = min(record.priority for record in records)
    weights = _reduced([record.weight for record in records])
    found: dict[tuple[str, int], Endpoint] = {}
    ttl = _ttl(answer)
    for record, weight in zip(records, weights, strict=True):
        try:
            target = await look_up(str(record.target).rstrip("."), record.port, asking, hosts)
        except _NoSuchName:
            continue
        ttl = min(ttl, target.ttl)
        for host, port, *_ in target.endpoints:
            found.setdefault((host, port), Endpoint(host, port, weight, record.priority > best))
    if not found:
        raise NotResolved(f"{name}: none of its targets has an address")
    return Answer(tuple(sorted(found.values())), ttl)


class _NoSuchName(NotResolved):
    """DNS has answered, and there is nothing."""


async def _addresses(name: str, asking: Asking) -> tuple[list[str], float]:
    """By way of DNS."""
    kinds = {"ipv4": ("A",), "ipv6": ("AAAA",)}.get(asking.family, ("A", "AAAA"))
    found: list[str] = []
    ttl = inf
    nothing: _NoSuchName | None = None
    for kind in kinds:
        try:
            answer = await _ask(name, kind, asking)
        except _NoSuchName as error:
            nothing = error
            continue
        found += [record.address for record in answer]
        ttl = min(ttl, _ttl(answer))
        if asking.family == "auto":
            break
    if not found:
        raise nothing or _NoSuchName(f"{name} has no address")
    return found, ttl


async def _ask(name: str, kind: str, asking: Asking) -> "dns.resolver.Answer":
    # Not before a name has to be asked for: the import takes a fifth of a second.
    import dns.asyncresolver
    import dns.exception
    import dns.nameserver
    import dns.resolver

    # Made anew each time: the system's servers may have changed.
    try:
        resolver = dns.asyncresolver.Resolver(configure=not asking.servers)
        if asking.servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in asking.servers]
        resolver.lifetime = asking.timeout
        resolver.timeout = asking.timeout / 3  # one lost packet must not be the end of it
        resolver.cache = None
        with trio.fail_after(asking.timeout + 1):
            return await resolver.resolve(name, kind, search=True)
    except dns.resolver.NXDOMAIN:
        raise _NoSuchName(f"{name} does not exist") from None
    except dns.resolver.NoAnswer:
        raise _NoSuchName(f"{name} has no {kind} record") from None
    except (dns.exception.Timeout, trio.TooSlowError):
        raise NotResolved(f"{name}: no DNS server has answered within {asking.timeout:g} s") from None
    except (dns.exception.DNSException, OSError) as error:
        raise NotResolved(f"{name}: {' '.join(str(error).split()) or type(error).__name__}") from None


def _ttl(answer: "dns.resolver.Answer") -> float:
    """Of the whole chain of aliases that led to it."""
    return float(answer.chaining_result.minimum_ttl)


def _reduced(weights: Sequence[int]) -> list[int]:
    """SRV weights in lowest terms, each at least 1 and at most 1000."""
    divisor = reduce(gcd, weights) or 1
    largest = max(weights) / divisor
    scale = min(1.0, _LARGEST_WEIGHT / largest) if largest else 1.0
    return [max(1, round(weight / divisor * scale)) for weight in weights]


def _of_family(hosts: Sequence[str], family: str) -> list[str]:
    v4 = [host for host in hosts if ":" not in host]
    v6 = [host for host in hosts if ":" in host]
    return {"auto": v4 or v6, "ipv4": v4, "ipv6": v6}.get(family, [*v4, *v6])


def _in_hosts(name: str, hosts: Path) -> list[str]:
    """The addresses that the hosts file has for a name (hosts(5))."""
    wanted = name.rstrip(".").lower()
    try:
        lines = hosts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        address, *names = line.partition("#")[0].lower().split() or [""]
        if wanted in names:
            try:
                found.append(str(ip_address(address)))
            except ValueError:
                continue
    return list(dict.fromkeys(found))
