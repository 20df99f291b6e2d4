"""When a backend is probed: quickly while it starts, at its interval afterwards, at once when a request met trouble."""

import time
from dataclasses import replace
from typing import Final

import trio

from balancer.supervisor.clock import now
from balancer.supervisor.generation import Generation
from balancer.supervisor.liveness import apply_verdict
from balancer.supervisor.probe import ProbeFailed, WrongAnswer, pause, probe
from balancer.supervisor.signs import ProbeResult
from balancer.supervisor.spec import ProbeSpec
from balancer.telemetry.readings import Durations

# A start is felt by whoever waits for it, and a refused connect costs little: often at first.
FIRST_PAUSE: Final = 0.01
GROWTH: Final = 1.3
LONGEST_PAUSE: Final = 0.25


async def probe_until_passed(life: Generation) -> None:
    """Probe a starting backend until it passes; the caller sets the limit."""
    await _until_passed(life, life.care.probe, "probe")


async def warm_up(life: Generation) -> None:
    """Send the requests of `ready.warmup` one after the other, each until it succeeds; the caller sets the limit."""
    for path in life.care.warmup:
        # As slow as it likes: that is what it is for.
        spec = replace(life.care.probe, path=path, body=None, timeout=life.care.ready_timeout)
        await _until_passed(life, spec, f"warm-up {path}")


async def _until_passed(life: Generation, spec: ProbeSpec, what: str) -> None:
    wait = FIRST_PAUSE
    while True:
        result = await _ask(life, spec)
        if spec is life.care.probe:
            life.signs.last_probe = result
        if result.passed:
            life.trouble = ""
            return
        life.trouble = f"{what}: {result.reason}"
        await trio.sleep(wait)
        wait = min(wait * GROWTH, LONGEST_PAUSE)


async def watch_health(life: Generation) -> None:
    """Probe for ever, and write the verdict to the backend."""
    first = True
    while True:
        with trio.move_on_after(pause(life.care.probe, first)):
            await life.suspected.wait()
        life.suspected = trio.Event()
        first = False
        await _probe_once(life)


async def _probe_once(life: Generation) -> None:
    spec = life.care.probe
    result = life.signs.last_probe = await _ask(life, spec)
    life.signs.probed(result.at, passed=result.passed, answered=result.answered)
    life.slot.probes.setdefault("pass" if result.passed else "fail", Durations()).observe(result.seconds)
    if life.streak.observe(result.passed, spec.rise, spec.fall):
        apply_verdict(life, result.reason)


async def _ask(life: Generation, spec: ProbeSpec) -> ProbeResult:
    """One probe, as a value."""
    backend = life.backend
    started = time.perf_counter()
    why, is_answered = "", True
    try:
        status = await probe(backend.host, backend.port, spec, life.listening, backend.authority)
    except ProbeFailed as error:
        why, is_answered, status = str(error), isinstance(error, WrongAnswer), error.status
    return ProbeResult(not why, is_answered, why, status, now(), time.perf_counter() - started)
