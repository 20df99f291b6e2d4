"""Small values of the file that are more than a number or a text: port ranges, status sets, surge, hash keys."""

import ipaddress
import math
import re
import shlex
from dataclasses import dataclass
from typing import Any, Literal

from balancer.settings.address import Address, is_host_name, is_ip, parse_address
from balancer.settings.units import format_percentage, parse_percentage, shown

# RFC 9110 section 5.6.2.
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@dataclass(frozen=True, slots=True)
class PortRange:
    """Ports from `first` to `last`, both included."""

    first: int
    last: int

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return f"{self.first}-{self.last}"


@dataclass(frozen=True, slots=True)
class StatusSet:
    """HTTP statuses as ranges, both ends included: `200 in statuses`."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, status: int) -> bool:
        return any(first <= status <= last for first, last in self.ranges)

    def __str__(self) -> str:
        return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in self.ranges)


@dataclass(frozen=True, slots=True)
class Surge:
    """How many new backends start at a time: a fixed `count`, or when that is 0 a `share` of the pool."""

    count: int
    share: float = 0.0

    def of(self, backends: int) -> int:
        """For a pool of so many backends; at least 1, or nothing would ever be replaced."""
        return max(1, self.count or math.ceil(round(self.share * backends, 6)))

    def __str__(self) -> str:
        return str(self.count) if self.count else format_percentage(self.share)


@dataclass(frozen=True, slots=True)
class Cpus:
    """CPUs by number, none for any; `is_spread`: one for each backend, in turn."""

    numbers: tuple[int, ...] = ()
    is_spread: bool = False

    def __str__(self) -> str:
        return "spread" if self.is_spread else ",".join(map(str, self.numbers))


def parse_cpus(value: Any) -> Cpus:
    """'0-3,6' → these; 'spread'; '' → any. Raises ValueError."""
    if value in ("", "spread"):
        return Cpus(is_spread=value == "spread")
    numbers: set[int] = set()
    for part in value.split(",") if isinstance(value, str) else ("",):
        match = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f'{shown(value)} is not a set of CPUs; expected numbers such as "0-3,6", or "spread"')
        numbers.update(range(int(match[1]), int(match[2] or match[1]) + 1))
    return Cpus(tuple(sorted(numbers)))


def parse_umask(value: Any) -> int | None:
    """'027' → 0o27; '' → None. Raises ValueError."""
    if value == "":
        return None
    if isinstance(value, str) and re.fullmatch("[0-7]{1,4}", value) and int(value, 8) <= 0o777:
        return int(value, 8)
    raise ValueError(f'{shown(value)} is not a umask; expected octal digits such as "027"')


def parse_ports(value: Any) -> PortRange | None:
    """'9000-9099' → a range; 'ephemeral' → None: the kernel chooses. Raises ValueError."""
    if value == "ephemeral":
        return None
    match = re.fullmatch(r"([0-9]{1,5})-([0-9]{1,5})", value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a range of ports; expected "ephemeral" or a range such as "9000-9099"')
    first, last = int(match[1]), int(match[2])
    if not 1 <= first <= last <= 65535:
        raise ValueError(
            f"{shown(value)} is not a range of ports; expected a smaller and then a larger number, 1 to 65535"
        )
    return PortRange(first, last)


def parse_statuses(value: Any) -> StatusSet:
    """'200-399' or '200,204' or both mixed. Raises ValueError."""
    expected = 'expected statuses from 100 to 599 such as "200-399" or "200,204"'
    ranges = []
    for part in value.split(",") if isinstance(value, str) else ("",):
        match = re.fullmatch(r"([1-5][0-9]{2})(?:-([1-5][0-9]{2}))?", part.strip())
        if match is None or int(match[2] or match[1]) < int(match[1]):
            raise ValueError(f"{shown(value)} is not a set of statuses; {expected}")
        ranges.append((int(match[1]), int(match[2] or match[1])))
    return StatusSet(tuple(ranges))


def parse_surge(value: Any) -> Surge:
    """1 → one at a time; '25%' → a quarter of the pool. Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 10_000:
        return Surge(value)
    try:
        share = parse_percentage(value)
    except ValueError:
        share = 0.0
    if share == 0:
        raise ValueError(f'{shown(value)} is not a surge; expected a number from 1 on or a percentage such as "25%"')
    return Surge(0, share)


def parse_count(value: Any) -> int | Literal["auto"]:
    """A number from 1 to 1000, or 'auto'. Raises ValueError."""
    if value == "auto" or (isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 1000):
        return value  # type: ignore[no-any-return]
    raise ValueError(f'{shown(value)} is not a number of processes; expected 1 to 1000 or "auto"')


def parse_backend_count(value: Any) -> int | Literal["auto"]:
    """As `parse_count`; 0 and 'max' are PM2's words for 'auto'. Raises ValueError."""
    if value == "max" or (value == 0 and type(value) is int):
        return "auto"
    try:
        return parse_count(value)
    except ValueError:
        expected = 'expected 1 to 1000, or "auto" (as are "max" and 0) for one per usable CPU'
        raise ValueError(f"{shown(value)} is not a number of backends; {expected}") from None


def parse_command(value: Any) -> tuple[str, ...]:
    """A text, split as a shell would split it, or a list of words; empty when there is none. Raises ValueError."""
    if isinstance(value, str):
        try:
            words = shlex.split(value)
        except ValueError as error:
            raise ValueError(f"{shown(value)} cannot be split into words: {str(error).lower()}") from None
        if value and not words:
            raise ValueError(f"{shown(value)} is not a command; it has no words")
    elif isinstance(value, list | tuple) and all(isinstance(word, str) for word in value):
        words = list(value)
        if not words:
            raise ValueError("an empty list is not a command; its first word is the program")
    else:
        raise ValueError(f"{shown(value)} is not a command; expected a string or a list of strings")
    if words and not words[0]:
        raise ValueError("the first word of a command is the program, and here it is empty")
    if any("\0" in word for word in words):
        raise ValueError(f"{shown(value)} is not a command; it contains a NUL character")
    return tuple(words)


_PER: dict[str, int] = {"s": 1, "m": 60, "h": 3600}


def parse_rate(value: Any) -> float:
    """'100/s', '600/m' or '1000/h' → per second; '' → 0.0: no limit. Raises ValueError."""
    if value == "":
        return 0.0
    match = re.fullmatch(r"([0-9]{1,9})/([smh])", value) if isinstance(value, str) else None
    if match is None or not int(match[1]):
        raise ValueError(f'{shown(value)} is not a rate; expected a number per second, minute or hour such as "100/s"')
    return int(match[1]) / _PER[match[2]]


def format_rate(rate: float) -> str:
    """As a person would write it: per second if that is a whole number, else per minute or per hour."""
    if not rate:
        return ""
    whole = (unit for unit, seconds in _PER.items() if abs(rate * seconds - round(rate * seconds)) < 1e-9)
    unit = next(whole, "h")
    return f"{round(rate * _PER[unit])}/{unit}"


def parse_network(value: Any) -> str:
    """A network as in '10.0.0.0/8', or one address; in its usual form. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a network; expected a string such as "10.0.0.0/8"')
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        pass
    try:
        wide = ipaddress.ip_network(value, strict=False)
    except ValueError:
        raise ValueError(f'{shown(value)} is not a network; expected one such as "10.0.0.0/8" or "fd00::/8"') from None
    raise ValueError(f'{shown(value)} has bits set beyond its prefix; did you mean "{wide}"?')


def parse_dns_server(value: Any) -> Address:
    """'10.0.0.2', '10.0.0.2:5353', 'fd00::2' or '[fd00::2]:5353'. Raises ValueError."""
    if isinstance(value, str):
        if is_ip(value):
            return Address(value, 53)
        try:
            address = parse_address(value)
        except ValueError:
            address = Address("", 0)
        if address.is_ip and address.port:
            return address
    raise ValueError(f'{shown(value)} is not a DNS server; expected an IP address, as in "10.0.0.2" or "10.0.0.2:5353"')


def parse_token(value: Any) -> str:
    """The name of a header field or a cookie. Raises ValueError."""
    if isinstance(value, str) and _TOKEN.fullmatch(value):
        return value
    raise ValueError(
        f"{shown(value)} is not a valid name; expected letters, digits and hyphens without spaces (RFC 9110)"
    )


def parse_optional_token(value: Any) -> str:
    """As `parse_token`, or '' for none."""
    return "" if value == "" else parse_token(value)


def parse_header_rule(value: Any) -> str:
    """'Name' or 'Name: value', or '' for none. Raises ValueError."""
    name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
    if value == "" or (_TOKEN.fullmatch(name) and (not colon or rest.strip())):
        return str(value)
    raise ValueError(f'{shown(value)} is no header to look for; expected "Name" or "Name: value"')


def parse_cookie_rule(value: Any) -> str:
    """'name' or 'name=value', or '' for none. Raises ValueError."""
    name, equals, rest = value.partition("=") if isinstance(value, str) else ("", "", "")
    if value == "" or (_TOKEN.fullmatch(name) and (not equals or (rest and not set(rest) & set('";, \t')))):
        return str(value)
    raise ValueError(f'{shown(value)} is no cookie to look for; expected "name" or "name=value"')


def parse_hash_key(value: Any) -> str:
    """'client-ip', 'uri', 'header:NAME' or 'cookie:NAME'. Raises ValueError."""
    kind, colon, name = value.partition(":") if isinstance(value, str) else ("", "", "")
    if value in ("client-ip", "uri") or (kind in ("header", "cookie") and colon and _TOKEN.fullmatch(name)):
        return str(value)
    raise ValueError(f"{shown(value)} is nothing to hash on; expected one of client-ip, uri, header:NAME, cookie:NAME")


def parse_server_header(value: Any) -> str:
    """'pass', 'remove', or the value itself, which must be fit for a field (RFC 9110 section 5.5). Raises ValueError."""
    if isinstance(value, str) and value and value == value.strip() and value.isascii() and value.isprintable():
        return value
    raise ValueError(f'{shown(value)} is not a server header; expected "pass", "remove" or a text in plain ASCII')


def parse_pattern(value: Any) -> str:
    """A regular expression, or '' for none. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f"{shown(value)} is not a regular expression; expected a string")
    try:
        re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        raise ValueError(f"{shown(value)} is not a regular expression: {error}") from None
    return value


def parse_host_pattern(value: Any) -> str:
    """The host of a route, lower-case: 'api.example.com', '*.example.com', '10.0.0.1', '[::1]', or '' for any.

    Raises ValueError.
    """
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a host; expected a string such as "api.example.com"')
    host = value.lower()
    if host == "*":
        raise ValueError("'*' is not a host; leave host out to match every host")
    if is_ip(host) and ":" in host:
        raise ValueError(f'{shown(value)} is not a host; an IPv6 address stands in brackets: "[{host}]"')
    if host == "" or is_ip(host) or (host.startswith("[") and host.endswith("]") and is_ip(host[1:-1])):
        return host
    if re.fullmatch(r".*:[0-9]*", host):
        raise ValueError(f"{shown(value)} is not a host; expected it without the port")
    if not host.isascii():
        raise ValueError(f"{shown(value)} is not a host; write international names in their xn-- form")
    if not is_host_name(host.removeprefix("*.")):
        raise ValueError(f'{shown(value)} is not a host; expected one such as "api.example.com" or "*.example.com"')
    return host


def parse_route_path(value: Any) -> str:
    """The path prefix of a route, or '' for any. Raises ValueError."""
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a path; expected a string such as "/v1/"')
    if value and not value.startswith("/"):
        raise ValueError(f'{shown(value)} does not start with "/"; did you mean "/{value}"?')
    if not value.isascii() or not value.isprintable() or any(c in value for c in ' ?#"<>'):
        raise ValueError(f"{shown(value)} is not a path; write it as it stands in a URL, without ? and #")
    return value
