"""Is a backend hung, or only slow? Killed is only one that shows no sign of life at all.

Three signs, each of them dated: its own heartbeat, the last byte of a response from it (the proxies note that in the shared table), and
its probe. Heartbeats count from readiness; until then `ready.timeout` alone holds. A TCP connect is answered by the kernel, also
for a process that stands still, and so is no sign; with `health.path`, or where we hold the listening socket too, the probe is one.

Without heartbeats nothing tells a hung backend from a sick one for certain, so it is only said, unless `health.hang_timeout` is set.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import trio

from balancer.pool.lifecycle import Health
from balancer.supervisor.clock import now
from balancer.supervisor.generation import Generation
from balancer.supervisor.signs import Signs

LATE: Final = 0.75  # of `health.heartbeat`: so late, it gets no new requests
SAID_AFTER: Final = 30.0  # seconds without a sign of life until that is said
STALL: Final = 1.0  # seconds by which we may ourselves be late before all dates are in doubt


class State(Enum):
    """What the signs mean."""

    ALIVE = "alive"
    SILENT = "silent"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class Limits:
    """`[pool.NAME.health]`, seconds; 0: not asked for. has_probe: the probe is a sign, and not the kernel's word."""

    heartbeat: float
    hang_timeout: float
    has_probe: bool


def judge(signs: Signs, moved_at: float, limits: Limits, at: float) -> State:
    """The state at that time. moved_at: of the last byte from it. Pure."""
    beat, probe = at - signs.beat_at, at - signs.passed_at
    moved = at - moved_at
    if limits.heartbeat:
        quiet = min(beat, moved, *((probe,) if limits.has_probe else ()))
        if quiet > limits.heartbeat and (signs.probe_fails or not limits.has_probe):
            return State.HUNG
    if limits.has_probe and signs.probe_fails:
        quiet = min(moved, at - signs.answered_at)
        if limits.heartbeat:
            quiet = min(quiet, beat)
        if limits.hang_timeout and quiet > limits.hang_timeout:
            return State.HUNG
        if quiet > SAID_AFTER:
            return State.SILENT
    return State.ALIVE


def is_late(signs: Signs, limits: Limits, at: float) -> bool:
    """Whether its heartbeat is so late that it should get no new requests. Pure."""
    return limits.heartbeat > 0 and at - signs.beat_at > limits.heartbeat * LATE


def apply_verdict(life: Generation, why: str) -> None:
    """Write to the backend what its probes and its heartbeat say together."""
    backend = life.backend
    verdict = Health.UNHEALTHY if life.signs.is_late else life.streak.verdict
    if backend.health is verdict:
        return
    backend.health = verdict
    life.around.truth.touch()
    detail = {"reason": why} if verdict is Health.UNHEALTHY else {}
    life.around.events.record(verdict.value, backend.pool, backend.id.name, backend.id.generation, **detail)


async def until_hung(life: Generation, is_probed: bool, said: trio.Event) -> str:
    """Watch a process that is ready; returns once it shows no sign of life, with the reason.

    said: set when it says itself that it hangs.
    """
    health = life.care.liveness
    limits = Limits(
        health.heartbeat, health.hang_timeout, is_probed and (bool(life.care.probe.path) or life.listening is not None)
    )
    signs = life.signs
    signs.beat_at = max(signs.beat_at, life.ready_at)
    signs.passed_at = signs.answered_at = life.ready_at
    shortest = min([SAID_AFTER, *(limit for limit in (limits.heartbeat, limits.hang_timeout) if limit)])
    pause = max(0.02, min(shortest / 10, 1.0))
    was_silent = False
    while True:
        before = now()
        with trio.move_on_after(pause):
            await said.wait()
            return "it said so itself"
        instant = now()
        signs.beat_at = max(signs.beat_at, life.beat_at)
        if instant - before > pause + STALL:
            # It was us who did not run: what it sent meanwhile has not been read yet.
            signs.forgive(instant)
            continue
        moved_at = max(life.around.truth.ledger.table.last_moved(life.backend.row), life.ready_at)
        state = judge(signs, moved_at, limits, instant)
        if state is State.HUNG:
            return _reason(signs, moved_at, limits, instant)
        if is_late(signs, limits, instant) is not signs.is_late:
            signs.is_late = not signs.is_late
            if signs.is_late:
                life.probe_now()
            apply_verdict(life, f"no heartbeat for {instant - signs.beat_at:.1f} s")
        if state is State.SILENT and not was_silent:
            backend = life.backend
            reason = _reason(signs, moved_at, limits, instant)
            life.around.events.record("silent", backend.pool, backend.id.name, backend.id.generation, reason=reason)
        was_silent = state is State.SILENT


def _reason(signs: Signs, moved_at: float, limits: Limits, at: float) -> str:
    parts = [f"no heartbeat for {at - signs.beat_at:.1f} s"] if limits.heartbeat else []
    parts.append(f"no byte of a response for {at - moved_at:.1f} s")
    if limits.has_probe:
        parts.append(f"its probe has failed for {at - signs.passed_at:.1f} s")
    return ", ".join(parts)
