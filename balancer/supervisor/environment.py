"""What a backend process finds in its environment."""

import pwd
from collections.abc import Callable, Mapping

from balancer.pool.backend import Backend
from balancer.supervisor import spawn
from balancer.supervisor.slot import Slot
from balancer.supervisor.spec import Care, Launch


def environment(
    slot: Slot,
    backend: Backend,
    launch: Launch,
    care: Care,
    filled: Callable[[str], str],
    *more: Mapping[str, str],
) -> dict[str, str]:
    """Ours without what is meant for us alone, the pool's with its placeholders filled in, what every backend gets, and `more`."""
    env = spawn.inherited()
    if launch.user:
        env |= _identity(launch.user)
    env |= {name: filled(text) for name, text in launch.env.items()}
    env |= {
        "PORT": str(backend.port),
        "HOST": backend.host,
        "BALANCER_POOL": slot.pool,
        "BALANCER_BACKEND": slot.name,
        "BALANCER_INDEX": str(slot.index),
        "BALANCER_GENERATION": str(backend.id.generation),
        "NODE_APP_INSTANCE": str(slot.index),
    }
    if care.liveness.heartbeat:
        # Libraries of the sd_notify protocol send WATCHDOG=1 twice as often as this says (sd_watchdog_enabled(3)).
        env["WATCHDOG_USEC"] = str(int(care.liveness.heartbeat * 1e6))
    for given in more:
        env |= given
    return env


def _identity(user: str) -> dict[str, str]:
    """What a login sets: programs look for their files at $HOME, not at what getpwuid(3) says."""
    try:
        entry = pwd.getpwnam(user)
    except KeyError:
        return {}
    return {"HOME": entry.pw_dir, "USER": user, "LOGNAME": user, "SHELL": entry.pw_shell}
