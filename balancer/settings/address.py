"""Where something listens: host and port, or the path of a Unix socket."""

import ipaddress
import re
from dataclasses import dataclass
from typing import Any

from balancer.settings.units import shown

# sockaddr_un has 108 bytes for the path, one of them for the final NUL (unix(7)).
UNIX_PATH_LIMIT = 107

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)(?:\.(?!-)[A-Za-z0-9_-]{1,63}(?<!-))*\.?")


@dataclass(frozen=True, slots=True)
class Address:
    """`path` is "" for host and port; for a Unix socket host is "" and port 0. An IPv6 host stands without its brackets.

    is_service: the host is a name whose SRV records say host and port; port is 0 then.
    """

    host: str
    port: int
    path: str = ""
    is_service: bool = False

    @property
    def is_unix(self) -> bool:
        return self.path != ""

    @property
    def is_ip(self) -> bool:
        """Whether the host is an address and not a name."""
        return is_ip(self.host)

    @property
    def is_name(self) -> bool:
        """Whether it has to be looked up."""
        return not self.is_unix and not self.is_ip

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        if self.is_unix or self.host == "localhost":
            return True
        return self.is_ip and ipaddress.ip_address(self.host).is_loopback

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of the machine."""
        return self.is_ip and ipaddress.ip_address(self.host).is_unspecified

    def __str__(self) -> str:
        if self.is_unix:
            return f"unix:{self.path}"
        if self.is_service:
            return f"srv:{self.host}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def is_ip(host: str) -> bool:
    """Whether the text is an IPv4 or IPv6 address, without brackets."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def is_host_name(host: str) -> bool:
    """RFC 1123 section 2.1, with the underscore that container networks use; a last label of digits only would be an address."""
    return len(host) <= 253 and bool(_HOST_NAME.fullmatch(host)) and not host.rstrip(".").rpartition(".")[2].isdigit()


def parse_address(value: Any) -> Address:
    """'127.0.0.1:8080', '[::]:8080', 'app.internal:80' or 'unix:/run/app.sock' (the path may be relative, port may be 0).

    Raises ValueError.
    """
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not an address; expected a string such as "127.0.0.1:8080"')
    if value.startswith("unix:"):
        path = value[5:]
        if not path or path.startswith("//") or "\0" in path:
            raise ValueError(
                f'{shown(value)} is not an address; expected a path after "unix:", as in "unix:/run/app.sock"'
            )
        return Address("", 0, path)
    if value.startswith("/"):
        raise ValueError(f'{shown(value)} is not an address; for a Unix socket write "unix:{value}"')
    if "://" in value:
        raise ValueError(f"{shown(value)} is a URL; expected host:port")
    host, colon, port = value.rpartition(":")
    if value.isascii() and value.isdigit():
        raise ValueError(
            f'{shown(value)} has no host; write "127.0.0.1:{value}", or "0.0.0.0:{value}" for every address'
        )
    if is_ip(value) and ":" in value:
        raise ValueError(
            f'{shown(value)} is ambiguous; an IPv6 address stands in brackets before the port, as in "[::1]:8080"'
        )
    if not colon:
        raise ValueError(f'{shown(value)} has no port; expected host:port, as in "{value}:8080"')
    if host in ("", "*"):
        raise ValueError(f'{shown(value)} has no host; write "127.0.0.1:{port}", or "0.0.0.0:{port}" for every address')
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{shown(value)}: {shown(port)} is not a port; expected a number from 0 to 65535")
    if host.startswith("[") and host.endswith("]") and ":" in host and is_ip(host[1:-1]):
        return Address(host[1:-1], int(port))
    if ":" in host:
        raise ValueError(f'{shown(value)}: an IPv6 address stands in brackets, as in "[::1]:{port}"')
    if not is_ip(host) and not is_host_name(host):
        raise ValueError(f"{shown(value)}: {shown(host)} is neither an IP address nor a host name")
    return Address(host, int(port))


def parse_backend_address(value: Any) -> Address:
    """As `parse_address`, and 'srv:_http._tcp.app.internal': a name whose SRV records are looked up. Raises ValueError."""
    if isinstance(value, str) and value.startswith("srv:") and not value[4:].isdigit():
        name = value[4:]
        if not is_host_name(name) or is_ip(name):
            raise ValueError(f'{shown(value)} is not a service; expected a name, as in "srv:_http._tcp.app.internal"')
        return Address(name, 0, is_service=True)
    return parse_address(value)
