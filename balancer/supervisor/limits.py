"""What a backend process may use: `[pool.NAME.limits]`, made ready here and put in force between fork and exec."""

import os
import resource
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from balancer.errors import BalancerError

CROWD: Final = 2  # backends per CPU; beyond, they wait for each other
UNLIMITED: Final = -1
_KILL_AFTER: Final = 5  # seconds of CPU between SIGXCPU and the kernel's SIGKILL


class CannotLimit(BalancerError):
    """A limit cannot be put in force; the text says which and why."""


@dataclass(frozen=True, slots=True)
class LimitsSpec:
    """Bytes, seconds of CPU; None leaves what the balancer has itself."""

    open_files: int | None = None
    core: int | None = None  # UNLIMITED: as large as it gets
    address_space: int | None = None
    cpu: int | None = None
    nice: int | None = None
    umask: int | None = None
    cpus: tuple[int, ...] = ()  # (): any
    is_spread: bool = False  # one of the CPUs for each backend, in turn


NO_LIMITS: Final = LimitsSpec()


def preparation(spec: LimitsSpec, index: int) -> Callable[[], None]:
    """What the new process has to call on itself, while it may still do what its user may not. Raises CannotLimit.

    index: of the backend in its pool.
    """
    limits = [(number, *_limit(name, number, value)) for name, number, value in _limits(spec) if value is not None]
    if spec.nice is not None and spec.nice < os.getpriority(os.PRIO_PROCESS, 0) and os.geteuid():
        raise CannotLimit(f"limits.nice {spec.nice} is more than the balancer's own; only root may have that")
    cpus = _cpus(spec, index)
    nice, umask = spec.nice, spec.umask

    def prepare() -> None:
        for number, soft, hard in limits:
            resource.setrlimit(number, (soft, hard))
        if nice is not None:
            os.setpriority(os.PRIO_PROCESS, 0, nice)
        if cpus:
            os.sched_setaffinity(0, cpus)
        if umask is not None:
            os.umask(umask)

    return prepare


def crowd(backends: int, cpus: int) -> str:
    """What is to be said about so many processes on so many CPUs; "" when nothing is."""
    if backends <= CROWD * cpus:
        return ""
    return f"{backends} backends on {cpus} CPU{'s' * (cpus != 1)}: more than {CROWD} for each rarely serve more requests, only slower"


def _limits(spec: LimitsSpec) -> list[tuple[str, int, int | None]]:
    return [
        ("open_files", resource.RLIMIT_NOFILE, spec.open_files),
        ("core", resource.RLIMIT_CORE, spec.core),
        ("address_space", resource.RLIMIT_AS, spec.address_space),
        ("cpu", resource.RLIMIT_CPU, spec.cpu),
    ]


def _limit(name: str, number: int, value: int) -> tuple[int, int]:
    """(soft, hard). The hard one stays as low as it may, so that a program that raises its own gets no further."""
    hard = value + _KILL_AFTER if number == resource.RLIMIT_CPU else value
    _, most = resource.getrlimit(number)
    is_more = most != resource.RLIM_INFINITY and (hard == UNLIMITED or hard > most)
    if is_more and os.geteuid():
        if number != resource.RLIMIT_CPU or value > most:
            raise CannotLimit(f"limits.{name} is above the system's hard limit of {most}; only root may raise that")
        hard = most
    return (resource.RLIM_INFINITY, resource.RLIM_INFINITY) if value == UNLIMITED else (value, hard)


def _cpus(spec: LimitsSpec, index: int) -> tuple[int, ...]:
    usable = sorted(os.sched_getaffinity(0))
    wanted = [cpu for cpu in spec.cpus if cpu in usable] if spec.cpus else usable
    if not wanted:
        raise CannotLimit(
            f"limits.cpus names no CPU that the balancer may use; those are {', '.join(map(str, usable))}"
        )
    if spec.is_spread:
        return (wanted[index % len(wanted)],)
    return tuple(wanted) if spec.cpus else ()
