"""The numbered, frozen picture of everything a proxy needs; whole each time, the latest wins.

The supervisor builds it (`supervisor/truth.py`), it travels as one JSON value on the channel, and each proxy turns it into its
own working objects (`proxy/view.py`). Plain data only, so that a proxy starts without the settings library.
Durations are seconds, sizes bytes; `row` numbers index `telemetry.table`.
"""

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class BackendPicture:
    """One generation of one backend slot. (name, generation) is its identity; everything else may change."""

    name: str  # the slot: "web-3"
    generation: int
    host: str  # "127.0.0.1", "::1", or "unix:/path" with port 0
    port: int
    row: int  # its row in the shared table; one per (name, generation)
    weight: int
    backup: bool
    takes_requests: bool  # running, ready, healthy, intent serve: decided by the supervisor alone
    draining: bool  # finish what is in flight, then report "drained"
    since: float  # CLOCK_MONOTONIC seconds when the process started: slow start counts from here
    group: str = ""
    authority: str = ""  # its own Host, where that is not its address
    tls: str = ""  # by which name its TLS settings were given, see `proxy/security`; "": it speaks plain HTTP
    drain_until: float = 0.0  # CLOCK_MONOTONIC: by then streams without an end are closed, a few at a time; 0: none is


@dataclass(frozen=True, slots=True)
class GroupPicture:
    """What one [[pool.X.group]] takes beyond its weights, see `pool.groups.Rule`."""

    name: str
    share: float = 0.0
    header: str = ""
    cookie: str = ""


@dataclass(frozen=True, slots=True)
class PoolPicture:
    """One pool: its settings for traffic and its backends in slot order."""

    name: str
    row: int
    policy: str
    hash_on: str
    sticky_cookie: str
    connect_timeout: float
    response_timeout: float
    retries: int
    concurrency: int  # 0: no limit
    queue: int
    queue_timeout: float
    keep_alive: int
    keep_alive_timeout: float
    slow_start: float
    pass_host: bool
    expects: bool  # a backend is starting or being replaced: a request that finds none may wait for it
    retry_after: float  # seconds until one is expected, for Retry-After; 0: not known
    backends: tuple[BackendPicture, ...] = ()
    retry_budget: float = 0.2  # retries as a share of requests
    quarantine: tuple[str, ...] = ()  # "METHOD /path" of requests that keep killing backends: 503
    quarantine_max: float = 0.0  # of all requests, no larger share is refused for that
    quarantine_time: float = 0.0  # seconds, for Retry-After
    eject_failures: int = 5  # failures in a row that are told to the supervisor; 0: none
    sticky_key: str = ""  # hexadecimal secret that signs the sticky cookie
    sticky_attributes: str = "Path=/; HttpOnly; SameSite=Lax"
    groups: tuple[GroupPicture, ...] = ()  # only those with a share or a rule
    backend_header: str = ""  # in which responses say who gave them; "": in none


@dataclass(frozen=True, slots=True)
class LimitPicture:
    """What one client may on a listener; 0 is no limit."""

    connections: int = 0  # per address
    rate: float = 0.0  # requests per second and address
    burst: int = 0  # requests at once; 0: as many as one second brings
    allow: tuple[str, ...] = ()  # networks; (): everybody
    deny: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ListenerPicture:
    """One listener; its socket came with the proxy's start (one per proxy and listener)."""

    name: str
    row: int
    pool: str  # where requests go that no route takes; "": 404
    trusted_proxies: tuple[str, ...] = ()
    proxy_protocol: bool = False
    redirect: str = ""
    redirect_port: int = 443  # where https is for a client that named a port
    tls: bool = False  # its certificates come in a message of their own, see `proxy/security`
    handshake_timeout: float = 5.0
    hsts: int = 0  # seconds; 0: no Strict-Transport-Security
    ready_path: str = ""  # where it says itself whether it is ready
    limit: LimitPicture | None = None
    mode: str = "proxy"  # "pass": its connections go to the pool's backends whole, see `proxy/passing`


@dataclass(frozen=True, slots=True)
class RoutePicture:
    """One [[route]]: `host` "" matches any, "*.example.com" any subdomain; `path` "" any, else a prefix on segment borders."""

    host: str
    path: str
    pool: str
    strip_prefix: bool


@dataclass(frozen=True, slots=True)
class ProxyPicture:
    """The [proxy] section: limits and deadlines of the client side, and the access log."""

    header_timeout: float
    idle_timeout: float
    body_timeout: float
    max_header_size: int
    max_headers: int
    max_body_size: int  # 0: unlimited
    max_connections: int
    shutdown_timeout: float
    server_header: str
    request_id_header: str
    access: str  # "off" · "stderr" · a path
    access_format: str  # "combined" · "json"
    log_level: str
    leaving: bool = False  # the balancer is about to stop, and still serves


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Everything, at one moment. A higher number replaces a lower one."""

    number: int
    proxy: ProxyPicture
    listeners: tuple[ListenerPicture, ...]
    routes: tuple[RoutePicture, ...]
    pools: tuple[PoolPicture, ...]

    def to_json(self) -> dict[str, Any]:
        """As it travels: {"type": "snapshot", "number": …, …}."""
        return {"type": "snapshot", **asdict(self)}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "Snapshot":
        """The inverse of `to_json`. Raises KeyError or TypeError on anything else: both ends are ours."""
        return cls(
            number=value["number"],
            proxy=ProxyPicture(**value["proxy"]),
            listeners=tuple(_listener(listener) for listener in value["listeners"]),
            routes=tuple(RoutePicture(**route) for route in value["routes"]),
            pools=tuple(
                PoolPicture(
                    **{
                        **pool,
                        "backends": tuple(BackendPicture(**b) for b in pool["backends"]),
                        "quarantine": tuple(pool["quarantine"]),
                        "groups": tuple(GroupPicture(**g) for g in pool["groups"]),
                    }
                )
                for pool in value["pools"]
            ),
        )


def _listener(value: dict[str, Any]) -> ListenerPicture:
    limit = value["limit"]
    if limit is not None:
        limit = LimitPicture(**{**limit, "allow": tuple(limit["allow"]), "deny": tuple(limit["deny"])})
    return ListenerPicture(**{**value, "trusted_proxies": tuple(value["trusted_proxies"]), "limit": limit})
