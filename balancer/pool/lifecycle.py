"""The three axes of a backend and what may follow what: one table, and a missing key raises.

Each axis has one owner: the task that owns the process writes the phase, the probes the health, whoever wants it in or
out of rotation (operator, rollout, the process itself) the intent. Whether it takes requests is a function of the three.
"""

from enum import StrEnum
from typing import Final

from balancer.errors import BalancerError


class Phase(StrEnum):
    """Where the process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    HOLD = "hold"


class Health(StrEnum):
    """What probes and traffic say."""

    UNKNOWN = "unknown"
    HEALTHY = "healthy"
    UNHEALTHY = "unhealthy"
    EJECTED = "ejected"


class Intent(StrEnum):
    """What is wanted of it."""

    SERVE = "serve"
    DRAIN = "drain"


class Step(StrEnum):
    """What moves the phase."""

    START = "start"  # a process is being started
    READY = "ready"  # it may take requests
    STOP = "stop"  # it is being ended on purpose
    EXIT = "exit"  # it has ended, for whatever reason
    GIVE_UP = "give up"  # it crashed too often to be started again


class ImpossibleStep(BalancerError):
    """This step cannot follow this phase: a bug of ours."""


TRANSITIONS: Final = {
    (Phase.STOPPED, Step.START): Phase.STARTING,
    (Phase.STOPPED, Step.GIVE_UP): Phase.HOLD,
    (Phase.HOLD, Step.START): Phase.STARTING,
    (Phase.STARTING, Step.READY): Phase.RUNNING,
    (Phase.STARTING, Step.STOP): Phase.STOPPING,
    (Phase.STARTING, Step.EXIT): Phase.STOPPED,
    (Phase.RUNNING, Step.STOP): Phase.STOPPING,
    (Phase.RUNNING, Step.EXIT): Phase.STOPPED,
    (Phase.STOPPING, Step.EXIT): Phase.STOPPED,
}


def after(phase: Phase, step: Step) -> Phase:
    """The phase that follows. Raises ImpossibleStep."""
    try:
        return TRANSITIONS[phase, step]
    except KeyError:
        raise ImpossibleStep(f"a {phase} backend cannot {step}") from None


def takes_requests(phase: Phase, health: Health, intent: Intent) -> bool:
    """A backend starts down: only one that is ready, healthy and wanted takes requests."""
    return phase is Phase.RUNNING and health is Health.HEALTHY and intent is Intent.SERVE
