"""What of new settings a running balancer can take over: everything but what was fixed when it started."""

from balancer.settings.model import Listen, Settings


def mergeable(old: Settings, new: Settings) -> Settings:
    """`new`, with the old values of every key that needs a restart (`settings.effects`). Pure."""
    return old.model_copy(
        update={
            "listen": {name: _listener(listener, new.listen.get(name), new) for name, listener in old.listen.items()},
            "proxy": new.proxy.model_copy(update={"processes": old.proxy.processes, "user": old.proxy.user}),
            "route": new.route,
            "pool": new.pool,
            "log": new.log.model_copy(update={"format": old.log.format}),
        }
    )


def _listener(old: Listen, new: Listen | None, settings: Settings) -> Listen:
    """The socket of the old one with the routing of the new one; one that the file no longer has serves on until a restart."""
    kept = (
        old if new is None else new.model_copy(update={key: getattr(old, key) for key in ("address", "backlog", "tls")})
    )
    return kept if kept.pool in ("", *settings.pool) else kept.model_copy(update={"pool": ""})
