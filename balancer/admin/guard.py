"""Who may ask what of the admin API: the token, and that no browser is used against it. Pure.

Two attacks by a page in a browser on the same machine are shut out: a form or script sent across origins (`Origin`), and a
name of the attacker's that suddenly means 127.0.0.1 (DNS rebinding: `Host`).
"""

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass

OPEN_PATHS = frozenset({"/healthz", "/readyz"})  # load balancers and kubelets ask these and hold no token
SAFE_METHODS = frozenset({"GET", "HEAD"})


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: the HTTP status and a sentence."""

    status: int
    message: str


@dataclass(frozen=True, slots=True)
class Guard:
    """The rules of one address. host: as configured, without brackets; token: "" when there is none."""

    host: str
    token: str

    def check(self, method: str, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """None: go on. `headers` by lower-case name."""
        authorized = self._is_authorized(headers.get("authorization", ""))
        host = headers.get("host", "")
        # With the token on an address that others reach, any name is good: a browser could not have added the token.
        if not (self._is_own(host) or (authorized and not is_loopback(self.host))):
            return Refusal(403, f"the Host header says {_short(host)}, which is not a name of the admin address")
        origin = headers.get("origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return Refusal(403, f"a page of {_short(origin)} may not use the admin address")
        if path in OPEN_PATHS and method in SAFE_METHODS:
            return None
        if authorized or (method in SAFE_METHODS and is_loopback(self.host)):
            return None
        if not self.token:
            return Refusal(403, "no token is configured: use the control socket, or set admin.token_file")
        return Refusal(401, "this needs the token: Authorization: Bearer TOKEN")

    def _is_authorized(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        if not self.token or scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(given.strip().encode(), self.token.encode())

    def _is_own(self, header: str) -> bool:
        host = host_of(header)
        if host.rstrip(".").lower() == "localhost" or (host and host.lower() == self.host.lower()):
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        # On a wildcard address any number is its own; rebinding needs a name.
        return address.is_loopback or _is_wildcard(self.host)


def host_of(header: str) -> str:
    """The host of a Host header or of "host:port", without port and brackets; "" when it is none."""
    if header.startswith("["):
        host, closed, rest = header[1:].partition("]")
        return host if closed and (not rest or rest.startswith(":")) else ""
    host, _, port = header.partition(":")
    return host if ":" not in port else ""


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address of this host."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return not host


def _short(text: str) -> str:
    return repr(text[:80])
