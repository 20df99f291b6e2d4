"""cluster.toml as frozen values: every key with its default, and why it is that. Pools are in `model_pool`.

Defaults stand here as the file would write them; read, durations are seconds, sizes bytes and paths absolute.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PrivateAttr

from balancer.settings.address import Address
from balancer.settings.control import default_socket
from balancer.settings.cpus import usable_cpus
from balancer.settings.fields import (
    AccessLog,
    AdminAddress,
    Count,
    DnsServer,
    Duration,
    FileSize,
    HeadSize,
    HostPattern,
    ListenAddress,
    LocalPath,
    MaxAge,
    Network,
    NotesFolder,
    PositiveDuration,
    Rate,
    RoutePath,
    ServerHeader,
    SizeLimit,
    Token,
)
from balancer.settings.model_pool import Pool
from balancer.settings.section import Section, key, part


class Certificate(Section):
    """A certificate chain and its key, both PEM files."""

    cert: LocalPath = key("", "PEM file: the certificate, then its intermediates")
    key: LocalPath = key("", "PEM file: the private key, not encrypted; left out: it is in the file of cert too")


class Tls(Section):
    """TLS of one listener."""

    certificates: Annotated[tuple[Certificate, ...], Field(strict=False)] = key(
        (), "chosen by SNI; the first is the default"
    )
    min_version: Literal["1.2", "1.3"] = key("1.2", "older ones are broken (RFC 8996)")
    client_auth: Literal["none", "optional", "required"] = key(
        "none", "whether clients show a certificate; if so, client_ca is needed"
    )
    client_ca: LocalPath = key("", "PEM file: who signs the certificates of clients")
    client_crl: LocalPath = key(
        "", "PEM file: revocation lists of client_ca; a client whose certificate is on one is refused"
    )
    handshake_timeout: PositiveDuration = key("5s", "a whole TLS handshake")
    hsts: MaxAge = key("", 'Strict-Transport-Security with this max-age, e.g. "365d"; "": none')


class Limit(Section):
    """What one client may on this listener; an IPv6 client is a /64. Each proxy process counts for itself."""

    connections: int = key(0, "at a time from one address, in each proxy process; above it 429. 0: no limit", least=0)
    requests: Rate = key(
        "", 'from one address in each proxy process, e.g. "100/s" or "600/m"; above it 429. "": no limit'
    )
    burst: int = key(0, "requests that may come at once; 0: as many as one second brings", least=0)
    allow: Annotated[tuple[Network, ...], Field(strict=False)] = key(
        (), "networks that may come; others get 403. None: everybody may"
    )
    deny: Annotated[tuple[Network, ...], Field(strict=False)] = key(
        (), "networks that get 403, even if allow has them too"
    )


class Listen(Section):
    """One address on which clients are served."""

    address: ListenAddress = key("0.0.0.0:8080", "host:port, [::]:8080 or unix:/run/balancer.sock")
    backlog: int = key(
        4096, "connections that wait to be accepted; the kernel cuts it to net.core.somaxconn", least=1, most=65535
    )
    proxy_protocol: bool = key(False, "true: each connection starts with a PROXY v1 or v2 header")
    trusted_proxies: Annotated[tuple[Network, ...], Field(strict=False)] = key(
        (),
        "networks whose X-Forwarded-*, Forwarded and X-Request-ID are kept and extended; "
        "of nobody by default, as anyone can send them",
    )
    pool: str = key(
        "",
        "where requests go that no route takes; left out: the only pool if there is one and no route, "
        "else they get 404",
    )
    redirect: Literal["", "https"] = key("", '"https": every request is answered 308 to the same URL on https')
    ready_path: RoutePath = key(
        "",
        "a path that the balancer answers itself, for who is in front of it: 200 while every pool that is routed to has a backend "
        "that takes requests, 503 otherwise and from the start of a stop on",
    )
    tls: Tls | None = key(None, "makes it a TLS listener")
    limit: Limit = part(Limit, "what one client may")


class Proxy(Section):
    """The proxy processes: limits and deadlines of the client side."""

    processes: Count = key("auto", 'proxy processes; "auto": half of the usable CPUs, as backends need the rest')
    header_timeout: PositiveDuration = key("10s", "a client's whole request head; slow heads are the cheapest attack")
    idle_timeout: PositiveDuration = key(
        "75s",
        "a kept-alive client connection between two requests; browsers keep theirs longer than 60s",
    )
    body_timeout: PositiveDuration = key("60s", "between two pieces of a body, either direction")
    max_header_size: HeadSize = key("32KiB", "a whole request head; above it 431, or 414 for the target")
    max_headers: int = key(100, "header fields of one request; above it 431", least=1, most=10_000)
    max_body_size: SizeLimit = key(
        "unlimited", "of a request; above it 413. Bodies are not buffered, so none is needed"
    )
    max_connections: int = key(
        8192,
        "per proxy process; above it, the oldest idle connection makes room, else the newcomer waits",
        least=1,
        most=1_000_000,
    )
    shutdown_delay: Duration = key(
        "0s",
        "told to stop, it serves on for so long while ready_path and /readyz say 503, so that who is in front of it takes it out of "
        "rotation first",
    )
    shutdown_timeout: Duration = key("30s", "requests in progress get this long when the balancer stops")
    user: str = key(
        "",
        "proxy processes run as this user (needs root; the supervisor keeps what it needs to bind and to spawn)",
    )
    server_header: ServerHeader = key("pass", '"pass" the backend\'s, "remove" it, or any other text in its place')
    request_id_header: Token = key("X-Request-ID", "made when absent, and returned to the client")

    @property
    def process_count(self) -> int:
        """How many proxy processes to run: "auto" resolved for this machine, now."""
        return max(1, usable_cpus() // 2) if self.processes == "auto" else self.processes


class Route(Section):
    """One [[route]]: tried in order; the first that matches wins."""

    host: HostPattern = key("", 'optional; "*.example.com" takes every name below example.com')
    path: RoutePath = key("", "optional; a path prefix on segment borders")
    pool: str = key("", "where its requests go")
    strip_prefix: bool = key(False, "true: path is cut off before the request goes on")


class Dns(Section):
    """How names of groups that run elsewhere are looked up; what the hosts file knows is not asked for."""

    servers: Annotated[tuple[DnsServer, ...], Field(strict=False)] = key(
        (), "IP addresses, with a port where it is not 53; none: those of /etc/resolv.conf"
    )
    timeout: PositiveDuration = key("5s", "for one question with all its tries; what was known before is kept then")
    family: Literal["auto", "ipv4", "ipv6", "all"] = key(
        "auto",
        'which addresses of a name are backends; "auto": its IPv4 ones, or the IPv6 ones where it has no other: the two kinds '
        "are mostly two ways to one machine",
    )


class Admin(Section):
    """Status page, API and metrics, and the socket of the command line."""

    address: AdminAddress = key("127.0.0.1:9901", '"" turns it off; an address that is not loopback needs a token')
    token_file: LocalPath = key("", "its content is the bearer token for everything but GET")
    control_socket: LocalPath = key(
        "",
        "how the command line finds the balancer; default: next to the file, or under $RUNTIME_DIRECTORY "
        "when set; mode 0600",
    )


class Log(Section):
    """The balancer's own log (on stderr) and the access log."""

    level: Literal["debug", "info", "warning", "error"] = key("info", "the least that is logged")
    format: Literal["text", "json"] = key("text", "one line per event, for people or machines")
    access: AccessLog = key("off", '"off", "stderr" or a path; it costs throughput')
    access_format: Literal["combined", "json"] = key(
        "combined",
        "combined: as Apache and nginx write it, for the tools that read those; json: also duration, pool, backend, request id "
        "and why the balancer itself answered",
    )
    backends: LocalPath = key(
        "", "a folder: what each backend writes goes to a file of its own there too, such as web-3.log"
    )
    backends_format: Literal["text", "json"] = key(
        "text", "of those files: the lines as they are, or as JSON with their date"
    )
    max_size: FileSize = key("10MiB", "of such a file; then it becomes web-3.log.1, that one web-3.log.2 and so on")
    max_files: int = key(5, "so many are kept of each, the one that is written to included", least=1, most=1000)
    forensics: NotesFolder = key(
        "",
        "a folder for notes about backends that hung or crashed; default: beside the control socket, made when the first "
        'note comes; "off": no notes',
    )


class Settings(Section):
    """The whole file."""

    listen: dict[str, Listen] = key({}, "addresses on which clients are served; one or more")
    proxy: Proxy = part(Proxy, "the proxy processes")
    route: Annotated[tuple[Route, ...], Field(strict=False)] = key((), "tried in order; the first that matches wins")
    pool: dict[str, Pool] = key({}, "sets of backends; one or more")
    dns: Dns = part(Dns, "how names of groups that run elsewhere are looked up")
    admin: Admin = part(Admin, "status page, API, metrics, control socket")
    log: Log = part(Log, "what is written where")

    _path: Path = PrivateAttr(default=Path("cluster.toml"))
    _control_socket: str = PrivateAttr(default="cluster.sock")

    @classmethod
    def from_document(cls, document: Mapping[str, Any], path: Path, runtime_directory: str = "") -> Self:
        """From a parsed file. path: where it came from; runtime_directory: $RUNTIME_DIRECTORY. Raises pydantic's ValidationError."""
        path = Path(os.path.abspath(path))
        settings = cls.model_validate(document, context={"folder": str(path.parent)})
        settings._path = path
        settings._control_socket = settings.admin.control_socket or str(default_socket(path, runtime_directory))
        return settings

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return self._path

    @property
    def forensics_folder(self) -> str:
        """Absolute path of the folder for notes about backends that hung or crashed; "": none are made."""
        beside = str(Path(self._control_socket).with_suffix(".forensics"))
        return "" if self.log.forensics == "off" else self.log.forensics or beside

    @property
    def control_socket(self) -> str:
        """Absolute path of the Unix socket on which the command line finds the balancer."""
        return self._control_socket

    def default_pool(self, listener: str) -> str:
        """The name of the pool that gets what no route takes on this listener; "": none, such requests get 404."""
        if self.listen[listener].pool:
            return self.listen[listener].pool
        return next(iter(self.pool)) if len(self.pool) == 1 and not self.route else ""

    @property
    def https_port(self) -> int:
        """Of the first listener that speaks TLS; the usual one when there is none: somebody else will speak it then."""
        ports = (listener.address.port for listener in self.listen.values() if listener.tls and listener.address.port)
        return next(ports, 443)

    def mode(self, listener: str) -> str:
        """How clients of this listener come to their backend: the `mode` of its pool."""
        pool = self.pool.get(self.default_pool(listener))
        return pool.mode if pool is not None else "proxy"

    @property
    def reached_pools(self) -> frozenset[str]:
        """Names of the pools to which a listener or a route leads, whether they exist or not."""
        leading = {self.default_pool(name) for name in self.listen}
        if self.listen:
            leading |= {route.pool for route in self.route}
        return frozenset(leading - {""})

    def addresses(self) -> dict[str, Address]:
        """Every address that clients can connect to, by listener."""
        return {name: listener.address for name, listener in self.listen.items()}
