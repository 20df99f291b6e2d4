"""What of new settings a running balancer can take over: everything but what was fixed when it started."""

from balancer.settings.changes import is_openable
from balancer.settings.model import Listen, Settings
from balancer.settings.model_pool import Pool


def mergeable(old: Settings, new: Settings) -> Settings:
    """`new`, with the old values of every key that needs a restart (`settings.effects`). Pure."""
    return old.model_copy(
        update={
            "listen": {name: _listener(name, old, new) for name in old.listen} | _opened(old, new),
            "proxy": new.proxy.model_copy(update={"processes": old.proxy.processes, "user": old.proxy.user}),
            "route": new.route,
            "pool": {name: _pool(old.pool.get(name), pool) for name, pool in new.pool.items()},
            "dns": new.dns,
            "log": new.log.model_copy(update={"format": old.log.format}),
        }
    )


def _listener(name: str, old: Settings, new: Settings) -> Listen:
    """The socket of the old one with the routing of the new one; one that the file no longer has serves on until a restart."""
    kept, wanted = old.listen[name], new.listen.get(name)
    if wanted is not None:
        fixed = ["address", "backlog"]
        if old.mode(name) != new.mode(name):
            fixed.append("pool")
        kept = wanted.model_copy(update={key: getattr(kept, key) for key in fixed})
    return kept if kept.pool in ("", *new.pool) else kept.model_copy(update={"pool": ""})


def _opened(old: Settings, new: Settings) -> dict[str, Listen]:
    return {name: new.listen[name] for name in new.listen if name not in old.listen and is_openable(name, old, new)}


def _pool(old: Pool | None, new: Pool) -> Pool:
    return new if old is None else new.model_copy(update={"mode": old.mode})
