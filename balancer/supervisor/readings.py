"""What the exposition shows beyond the shared table, taken for one scrape."""

import os
from typing import TYPE_CHECKING

from balancer.pool.lifecycle import Health, Phase
from balancer.supervisor.clock import now
from balancer.supervisor.resources import Resources, Usage, open_descriptors, start_time
from balancer.supervisor.slot import Slot
from balancer.telemetry.readings import BackendReading, PoolReading, ProcessReading, Reading

if TYPE_CHECKING:
    from balancer.supervisor.process import Supervisor


def take_reading(supervisor: "Supervisor", usage: Usage) -> Reading:
    """Now; nothing of it changes afterwards."""
    truth, reloads = supervisor.truth, supervisor.reloads
    return Reading(
        pools=[PoolReading(name, [_backend(slot, usage) for slot in truth.shown_slots(name)]) for name in truth.pools],
        listeners=list(truth.settings.listen),
        processes=_processes(supervisor, usage),
        reloads=dict(reloads.results),
        last_reload_ok=reloads.last_ok,
        last_reload_time=reloads.last_time,
        config_version=reloads.version,
        certificates=list(supervisor.material.certificates),
    )


def _backend(slot: Slot, usage: Usage) -> BackendReading:
    life = slot.current
    backend = life.backend if life is not None else None
    last = life.signs.last_probe if life is not None else None
    resources: Resources | None = None
    if slot.current is not None and slot.current.process is not None:
        resources = usage.of(slot.current.process.pid)
        if resources is not None:
            slot.cpu.observe(slot.current.backend.id.generation, resources.cpu_seconds)
    return BackendReading(
        pool=slot.pool,
        name=slot.name,
        generation=backend.id.generation if backend is not None else slot.generation,
        group=backend.group if backend is not None else slot.launch.group,
        phase=slot.phase.value,
        up=backend is not None and backend.phase is Phase.RUNNING and backend.health is Health.HEALTHY,
        takes_requests=backend is not None and backend.takes_requests,
        weight=backend.weight if backend else slot.care.weight,
        probes={result: durations.copy() for result, durations in slot.probes.items()},
        last_probe=(last.passed, last.seconds) if last is not None else None,
        heartbeat_age=now() - life.beat_at if life is not None and life.beat_at else None,
        restarts=dict(slot.restarts),
        ejections=slot.ejections,
        messages=dict(slot.messages),
        memory_bytes=resources.memory_bytes if resources else None,
        cpu_seconds=slot.cpu.value if not slot.launch.address else None,
    )


def _processes(supervisor: "Supervisor", usage: Usage) -> list[ProcessReading]:
    own = os.getpid()
    times = os.times()
    found = [
        ProcessReading("supervisor", _own_memory(), times.user + times.system, open_descriptors(own), start_time(own))
    ]
    proxies = supervisor.proxies
    for slot, proxy in sorted(proxies.live.items()):
        pid = proxy.process.pid
        resources = usage.of(pid)
        if resources is not None:
            proxies.cpu[slot].observe(pid, resources.cpu_seconds)
            found.append(
                ProcessReading(
                    f"proxy-{slot}",
                    resources.memory_bytes,
                    proxies.cpu[slot].value,
                    open_descriptors(pid),
                    start_time(pid),
                    proxies.replaced[slot],
                )
            )
    return found


def _own_memory() -> int:
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
