"""What the settings want of the supervisor: the slots of each pool, in file order of their groups."""

import math
import re
import signal
from typing import NamedTuple

from balancer.pool.comparison import Margins
from balancer.settings.model_pool import Group, Limits, Pool
from balancer.supervisor.limits import LimitsSpec
from balancer.supervisor.observe import Guard
from balancer.supervisor.restart import RestartPolicy
from balancer.supervisor.spec import Care, Launch, LivenessSpec, ProbeSpec, upstream_tls


class WantedSlot(NamedTuple):
    """One slot: its number in the pool, how it is started, how it is looked after."""

    number: int
    launch: Launch
    care: Care


def wanted_slots(pool: Pool) -> list[WantedSlot]:
    """Every slot that the file itself gives the pool, numbered through its groups; those of names come from `names`."""
    wanted: list[WantedSlot] = []
    for group in pool.groups:
        launch, care = _launch(pool, group), care_of(pool, group)
        wanted += [WantedSlot(len(wanted) + i, launch, care) for i in range(group.backend_count)]
    return wanted


def guard_of(pool: Pool) -> Guard:
    """How a rollout of this pool looks at its traffic."""
    rollout = pool.rollout
    margins = Margins(rollout.max_error_rate, rollout.max_slowdown, rollout.min_requests)
    return Guard(rollout.observe, margins, rollout.on_inconclusive == "continue")


def _launch(pool: Pool, group: Group) -> Launch:
    name = group.name
    if group.address is not None:
        host = str(group.address) if group.address.is_unix else group.address.host
        return Launch(group=name, address=(host, group.address.port))
    return Launch(
        group=name,
        command=tuple(group.command),
        env=dict(group.env),
        cwd=group.cwd,
        user=group.user,
        limits=_limits(pool.limits),
        host=pool.host,
        ports=(pool.ports.first, pool.ports.last) if pool.ports else None,
        handover=pool.handover,
        mode=pool.mode,
    )


def _limits(limits: Limits) -> LimitsSpec:
    return LimitsSpec(
        open_files=limits.open_files or None,
        core=limits.core,
        address_space=limits.address_space or None,
        cpu=math.ceil(limits.cpu) or None,
        nice=limits.nice or None,
        umask=limits.umask,
        cpus=limits.cpus.numbers,
        is_spread=limits.cpus.is_spread,
    )


def care_of(pool: Pool, group: Group) -> Care:
    """How the backends of a group are looked after."""
    health, restart, stop = pool.health, pool.restart, pool.stop
    return Care(
        weight=group.weight,
        backup=group.backup,
        ready_when=pool.ready.when,
        ready_timeout=pool.ready.timeout,
        warmup=pool.ready.warmup,
        probe=ProbeSpec(
            path=health.path,
            status=health.status.ranges,
            body=re.compile(health.body.encode()) if health.body else None,
            interval=health.interval,
            timeout=health.timeout,
            rise=health.rise,
            fall=health.fall,
            tls=upstream_tls(group),
        ),
        liveness=LivenessSpec(
            heartbeat=health.heartbeat,
            hang_timeout=health.hang_timeout,
            dump_signal=signal.Signals[health.dump_signal] if health.dump_signal else 0,
        ),
        restart=RestartPolicy(restart.delay, restart.max_delay, restart.healthy_after, restart.max_crashes),
        drain_timeout=stop.drain_timeout,
        stop_signal=signal.Signals[stop.signal],
        stop_message=stop.message,
        stop_timeout=stop.timeout,
    )
