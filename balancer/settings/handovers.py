"""What must hold where backends get sockets or connections instead of requests: the keys `handover` and `mode` of a pool."""

from collections.abc import Iterator

from balancer.settings.checks import Finding
from balancer.settings.model import Listen, Settings
from balancer.settings.model_pool import Pool
from balancer.settings.problems import Key


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that cannot go together."""
    for name, pool in settings.pool.items():
        key: Key = ("pool", name)
        if pool.handover == "node-cluster" and "host" in pool.model_fields_set:
            text = 'has no use with handover = "node-cluster": each backend listens on an address of its own in 127.0.0.0/8'
            yield Finding((*key, "host"), text, about=((*key, "host"), (*key, "handover")))
        if pool.mode != "proxy":
            yield from _pool(key, pool)
            yield from _ways(settings, name, pool.mode)


def _pool(key: Key, pool: Pool) -> Iterator[Finding]:
    """No request is seen, so nothing that is done with requests can be asked for."""
    mode = f'mode = "{pool.mode}"'
    about = (*key, "mode")
    for index, group in enumerate(pool.group):
        if not group.is_spawned:
            at: Key = (*key, "group", index, "address")
            yield Finding(at, f"cannot be in a pool with {mode}: nothing can be handed to it", about=(at, about))
    if pool.handover == "socket":
        text = f'cannot be "socket" with {mode}'
        text += ": backends inherit the listener's" if pool.mode == "shared" else ": there is no socket to inherit"
        yield Finding((*key, "handover"), text, about=((*key, "handover"), about))
    if pool.health.path:
        at = (*key, "health", "path")
        text = f"cannot be asked for with {mode}: the backends have no addresses of their own"
        yield Finding(at, text, about=(at, about))


def _ways(settings: Settings, name: str, mode: str) -> Iterator[Finding]:
    """A pool gets whole listeners, or requests."""
    about = ("pool", name, "mode")
    for index, route in enumerate(settings.route):
        if route.pool == name:
            at: Key = ("route", index, "pool")
            text = f"pool '{name}' has mode = \"{mode}\": it can have a listener of its own, not a part of the requests"
            yield Finding(at, text, about=(at, about))
    for listener, listen in settings.listen.items():
        if settings.default_pool(listener) == name:
            for part in _unseen(listen):
                at = ("listen", listener, part)
                text = (
                    f"cannot be asked for: pool '{name}' has mode = \"{mode}\", so no request of this listener is seen"
                )
                yield Finding(at, text, about=(at, about))


def _unseen(listen: Listen) -> Iterator[str]:
    """What is set on a listener and needs a proxy that reads what clients say."""
    default = Listen.model_construct()
    for part in ("tls", "redirect", "proxy_protocol", "trusted_proxies", "limit"):
        if getattr(listen, part) != getattr(default, part):
            yield part
