"""What must hold between keys, judged from the settings alone; `machine` asks the machine."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from balancer.settings.address import UNIX_PATH_LIMIT, Address
from balancer.settings.explain import did_you_mean, nearest
from balancer.settings.model import Listen, Settings
from balancer.settings.model_pool import Group, Health, Pool
from balancer.settings.placeholders import near_misses
from balancer.settings.problems import Key
from balancer.settings.values import PortRange

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_SHELL_VARIABLE = re.compile(r"\$\{?(PORT|HOST)\b\}?", re.IGNORECASE)
_SHELLS = ("sh", "bash", "dash", "ash", "zsh", "ksh", "fish")
# What the supervisor sets for each backend; PORT and HOST may be given in another form.
_RESERVED = re.compile(
    r"BALANCER_.*|NODE_CHANNEL_.*|NODE_UNIQUE_ID|NODE_APP_INSTANCE|NOTIFY_SOCKET|LISTEN_(FDS|PID|FDNAMES)"
)
# Fields that have a meaning already: an id in one of them would be taken for what it is not, or break the message.
_TAKEN_FIELDS = frozenset(
    {
        *("host", "content-length", "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade"),
        *("expect", "date", "via", "forwarded", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"),
        *("cookie", "set-cookie", "authorization", "content-type", "location", "retry-after", "proxy-status"),
    }
)
# What an address group cannot have, because nothing is started for it.
_SPAWN_ONLY = ("backends", "cwd", "env", "user")


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong at a key. about: the keys it was judged from, when they are others ("*": any name or number); a faulty one among
    them makes it void.
    """

    key: Key
    message: str
    about: tuple[Key, ...] = ()


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong between the keys of valid settings."""
    yield from _listeners(settings)
    yield from _routes(settings)
    yield from _reach(settings)
    for name, pool in settings.pool.items():
        yield from _name(("pool", name))
        yield from _pool(("pool", name), pool)
        yield from _backend_header(("pool", name, "backend_header"), pool, settings.proxy.request_id_header)
    yield from _admin(settings)
    if settings.proxy.request_id_header.lower() in _TAKEN_FIELDS:
        name = settings.proxy.request_id_header
        yield Finding(
            ("proxy", "request_id_header"), f"'{name}' has a meaning of its own; expected one such as 'X-Request-ID'"
        )


def _name(key: Key) -> Iterator[Finding]:
    if not _NAME.fullmatch(str(key[-1])):
        yield Finding(key, f"'{key[-1]}' is not a name; expected up to 63 letters, digits, hyphens and underscores")


def _listeners(settings: Settings) -> Iterator[Finding]:
    if not settings.listen:
        yield Finding((), "there is no listener; add a table [listen.web] with an address", about=(("listen",),))
    seen: dict[str, Address] = {}
    for name, listener in settings.listen.items():
        key: Key = ("listen", name)
        yield from _name(key)
        yield from _listener(key, listener)
        yield from _known_pool(settings, (*key, "pool"), listener.pool)
        yield from _taken((*key, "address"), listener.address, seen)
        seen[name] = listener.address


def _taken(key: Key, address: Address, listeners: dict[str, Address]) -> Iterator[Finding]:
    for name, other in listeners.items():
        if _collide(address, other):
            yield Finding(key, f"'{address}' is taken by listen.{name}", about=(key, ("listen", name, "address")))
            return


def _listener(key: Key, listener: Listen) -> Iterator[Finding]:
    yield from _bindable((*key, "address"), listener.address)


def _bindable(key: Key, address: Address) -> Iterator[Finding]:
    """An address to listen on: a name would have to be looked up, and could mean several."""
    if address.is_unix:
        yield from _unix_path(key, address.path)
    elif not address.is_ip and address.host != "localhost":
        yield Finding(
            key, f"'{address}' is not an address to listen on; expected an IP address and a port, or unix:/path"
        )


def _unix_path(key: Key, path: str) -> Iterator[Finding]:
    if len(os.fsencode(path)) > UNIX_PATH_LIMIT:
        yield Finding(
            key,
            f"'{path}' has {len(os.fsencode(path))} bytes; the path of a Unix socket can have at most {UNIX_PATH_LIMIT}",
        )


def _collide(one: Address, other: Address) -> bool:
    """Whether both cannot be bound; port 0 is a new port each time."""
    if one.is_unix or other.is_unix:
        return one == other
    if one.port != other.port or one.port == 0:
        return False
    same_family = (":" in one.host) == (":" in other.host)
    return one.host == other.host or (same_family and (one.is_wildcard or other.is_wildcard))


def _routes(settings: Settings) -> Iterator[Finding]:
    for index, route in enumerate(settings.route):
        key: Key = ("route", index)
        if not route.pool:
            yield Finding(key, 'names no pool; add pool = "…"', about=((*key, "pool"),))
        yield from _known_pool(settings, (*key, "pool"), route.pool)
        if route.strip_prefix and route.path in ("", "/"):
            yield Finding(
                (*key, "strip_prefix"), "there is no path to strip; give the route a path", about=((*key, "path"),)
            )


def _known_pool(settings: Settings, key: Key, name: str) -> Iterator[Finding]:
    if name and name not in settings.pool:
        suggestion = did_you_mean(name, settings.pool)
        known = f"; expected one of {', '.join(settings.pool)}" if settings.pool and not suggestion else suggestion
        yield Finding(key, f"there is no pool '{name}'{known}", about=(key, ("pool", name)))


def _reach(settings: Settings) -> Iterator[Finding]:
    if not settings.pool:
        yield Finding((), "there is no pool; add a table [pool.web] with a command", about=(("pool",),))
    if not settings.listen:
        return
    # A misspelt name leads to the pool that was meant: saying that nothing does would be a second complaint about one mistake.
    reached = {name if name in settings.pool else nearest(name, settings.pool) for name in settings.reached_pools}
    for name in settings.pool:
        if name not in reached:
            yield Finding(
                ("pool", name),
                f'nothing leads to this pool; add pool = "{name}" to a listener, or a [[route]] to it',
                about=(("listen", "*", "pool"), ("route", "*", "pool")),
            )


def _pool(key: Key, pool: Pool) -> Iterator[Finding]:
    if pool.group:
        # pool.user stays: it is the default of its groups.
        for name in ("command", "backends", "weight", "backup", "cwd", "env"):
            if name in pool.model_fields_set:
                yield Finding((*key, name), "stands beside [[group]], which takes its place; move it into a group")
    elif not pool.command:
        yield Finding(key, "has neither a command nor a [[group]]", about=((*key, "command"), (*key, "group")))
    for index, group in enumerate(pool.group):
        yield from _group((*key, "group", index), group)
    yield from _shares(key, pool)
    yield from _spawned(key, pool)
    yield from _ports(key, pool)
    yield from _health(key, pool)
    if pool.hash_on != "client-ip" and pool.policy != "hash":
        yield Finding(
            (*key, "hash_on"), 'is only used with policy = "hash"', about=((*key, "policy"), (*key, "hash_on"))
        )
    if pool.restart.delay > pool.restart.max_delay:
        yield Finding((*key, "restart", "delay"), "is longer than max_delay", about=((*key, "restart"),))
    if 0 < pool.limits.memory <= pool.restart.max_memory:
        limit, gentle = (*key, "limits", "memory"), (*key, "restart", "max_memory")
        text = "is not larger than restart.max_memory: it would be killed before it is drained and replaced"
        yield Finding(limit, text, about=(limit, gentle))


def _backend_header(key: Key, pool: Pool, request_id_header: str) -> Iterator[Finding]:
    name = pool.backend_header.lower()
    if name in _TAKEN_FIELDS or name in ("server", "strict-transport-security"):
        yield Finding(
            key, f"'{pool.backend_header}' has a meaning of its own; expected one such as 'X-Balancer-Backend'"
        )
    elif name == request_id_header.lower():
        about = (key, ("proxy", "request_id_header"))
        yield Finding(key, f"'{pool.backend_header}' is proxy.request_id_header", about=about)
    elif name and pool.mode != "proxy":
        text = f'needs mode "proxy": with "{pool.mode}" no response is seen'
        yield Finding(key, text, about=(key, (*key[:-1], "mode")))


def _shares(key: Key, pool: Pool) -> Iterator[Finding]:
    if sum(group.share for group in pool.group) > 1 + 1e-9:
        total = sum(group.share for group in pool.group)
        yield Finding((*key, "group"), f"the shares of its groups add up to {total:.0%}; expected at most 100%")
    names = [group.name for group in pool.groups]
    for index, group in enumerate(pool.group):
        if group.name and names.index(group.name) != index:
            yield Finding((*key, "group", index, "name"), f"there is another group '{group.name}' in this pool")


def _group(key: Key, group: Group) -> Iterator[Finding]:
    both = ((*key, "command"), (*key, "address"))
    if group.command and group.address:
        yield Finding(
            key, "has both a command and an address; a group is either spawned or running elsewhere", about=both
        )
    if not group.command and not group.address:
        yield Finding(key, "has neither a command nor an address", about=both)
    if group.address:
        for name in _SPAWN_ONLY:
            if name in group.model_fields_set:
                yield Finding((*key, name), "has no use beside address: nothing is started for it")
        if group.address.is_unix:
            yield from _unix_path((*key, "address"), group.address.path)
        elif group.address.port == 0 and not group.address.is_service:
            yield Finding((*key, "address"), f"'{group.address}' has no port to connect to")
        elif group.address.is_service and group.tls and group.tls.verify and not group.tls.server_name:
            yield Finding((*key, "tls"), "needs server_name: a service's own name stands in no certificate")
        elif group.address.is_wildcard:
            yield Finding((*key, "address"), f"'{group.address}' is an address to listen on, not one to connect to")


def _spawned(key: Key, pool: Pool) -> Iterator[Finding]:
    """Commands and environments, of the pool itself or of its groups."""
    parts = (
        [((*key, "group", i), g) for i, g in enumerate(pool.group)] if pool.group else [(key, g) for g in pool.groups]
    )
    for place, group in parts:
        words = " ".join(group.command)
        for found, near in near_misses(words):
            yield Finding((*place, "command"), f"'{found}' is not a placeholder; did you mean '{near}'?")
        variable = _SHELL_VARIABLE.search(words)
        if variable and os.path.basename(group.command[0]) not in _SHELLS:
            meant = f"{{{variable[1].lower()}}}"
            yield Finding(
                (*place, "command"), f"'{variable[0]}' stays as it is, as no shell is run; did you mean '{meant}'?"
            )
        for name, value in group.env.items():
            at = (*place, "env", name)
            if not name or "=" in name or "\0" in name + value:
                yield Finding(at, "is not a variable; its name cannot be empty or contain '=', neither can contain NUL")
            if _RESERVED.fullmatch(name):
                yield Finding(at, "is set by the balancer itself")
            for found, near in near_misses(value):
                yield Finding(at, f"'{found}' is not a placeholder; did you mean '{near}'?")


def _ports(key: Key, pool: Pool) -> Iterator[Finding]:
    if isinstance(pool.ports, PortRange):
        spawned = sum(group.backend_count for group in pool.groups if group.is_spawned)
        surge = pool.rollout.surge.of(spawned)
        if len(pool.ports) < spawned + surge:
            yield Finding(
                (*key, "ports"),
                f"'{pool.ports}' has room for {len(pool.ports)}; expected at least {spawned + surge} ports: "
                f"{spawned} backends, and {surge} more during a reload",
                about=((*key, "ports"), (*key, "backends"), (*key, "group"), (*key, "rollout", "surge")),
            )


def _health(key: Key, pool: Pool) -> Iterator[Finding]:
    path = pool.health.path
    at: Key = (*key, "health")
    if path:
        yield from _request_path((*at, "path"), path)
    for warm in pool.ready.warmup:
        yield from _request_path((*key, "ready", "warmup"), warm)
    if pool.ready.warmup and pool.mode != "proxy":
        yield Finding(
            (*key, "ready", "warmup"), f'needs mode "proxy": with "{pool.mode}" no backend has an address of its own'
        )
    if not path:
        for name in ("status", "body", "hang_timeout"):
            is_for_warmup = name == "status" and pool.ready.warmup
            if getattr(pool.health, name) != getattr(Health(), name) and not is_for_warmup:
                yield Finding(
                    (*at, name), "needs health.path: a TCP connect has no response", about=((*at, name), (*at, "path"))
                )


def _request_path(key: Key, path: str) -> Iterator[Finding]:
    if not path.startswith("/") or not path.isascii() or not path.isprintable() or " " in path or "#" in path:
        yield Finding(key, f"'{path}' is not a path; expected one that starts with \"/\", as it stands in a URL")


def _admin(settings: Settings) -> Iterator[Finding]:
    address = settings.admin.address
    at: Key = ("admin", "address")
    yield from _unix_path(("admin", "control_socket"), settings.control_socket)
    if address is None:
        return
    yield from _bindable(at, address)
    if not address.is_loopback and not settings.admin.token_file:
        yield Finding(
            at,
            f"'{address}' can be reached from elsewhere; it needs admin.token_file",
            about=(at, ("admin", "token_file")),
        )
    yield from _taken(at, address, settings.addresses())
