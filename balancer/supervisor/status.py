"""What is, for people: the answer to `GET /api/v1/status`."""

from collections.abc import Callable
from typing import Any

import balancer
from balancer.pool.backend import Backend, BackendId
from balancer.supervisor.clock import now
from balancer.supervisor.proxies import Proxies
from balancer.supervisor.resources import Usage
from balancer.supervisor.signs import ProbeResult
from balancer.supervisor.slot import Life, Slot
from balancer.supervisor.truth import Truth
from balancer.telemetry.table import PROXY_CONNECTIONS, requests_of

LifeOf = Callable[[BackendId], Life | None]


def build_status(truth: Truth, proxies: Proxies, usage: Usage, started: float, life_of: LifeOf) -> dict[str, Any]:
    """All that `balancer status` and the page show; started: CLOCK_MONOTONIC seconds; life_of: `Fleet.life_of`."""
    settings = truth.settings
    table = truth.ledger.table
    return {
        "version": balancer.__version__,
        "uptime_seconds": round(now() - started, 3),
        "config": str(settings.path),
        "control_socket": settings.control_socket,
        "listeners": [{"name": name, "address": address} for name, address in proxies.sockets.addresses.items()],
        "proxies": [
            {
                "pid": proxy.process.pid,
                "slot": slot,
                "ready": proxy.is_ready,
                "connections": table.cells[table.proxy_base(slot) + PROXY_CONNECTIONS],
                "snapshot": proxy.applied_number,
                "uptime_seconds": round(now() - proxy.since, 3),
                "replaced": proxies.replaced[slot],
            }
            for slot, proxy in sorted(proxies.live.items())
        ],
        "snapshot": truth.number,
        "pools": [
            {
                "name": name,
                "policy": pool.policy,
                "suspects": [
                    suspect.to_json() | {"quarantined": suspect.fingerprint in truth.attribution.quarantined(name)}
                    for suspect in truth.attribution.suspects(name)
                ],
                "backends": [
                    _backend_status(truth, slot, backend, usage, life_of)
                    for slot in truth.shown_slots(name)
                    for backend in _shown(truth, slot)
                ],
            }
            for name, pool in truth.pools.items()
        ],
    }


def _shown(truth: Truth, slot: Slot) -> list[Backend | None]:
    """Every generation that lives, the one that the slot counts on last; one without any is shown too."""
    living = [backend for backend in truth.backends.values() if backend.id.name == slot.name]
    return [*sorted(living, key=lambda backend: backend.id.generation)] or [None]


def _backend_status(truth: Truth, slot: Slot, backend: Backend | None, usage: Usage, life_of: LifeOf) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "name": slot.name,
        "pool": slot.pool,
        "group": slot.launch.group,
        "address": "",
        "pid": None,
        "generation": slot.generation,
        "phase": slot.phase.value,
        "health": "unknown",
        "intent": "serve",
        "takes_requests": False,
        "weight": slot.care.weight,
        "in_flight": 0,
        "requests_total": sum(count for _, _, count in requests_of(truth.ledger.slot_sums(slot.pool, slot.name))),
        "restarts": sum(slot.restarts.values()),
        "uptime_seconds": 0.0,
        "heartbeat_seconds": None,
        "probe": None,
        "memory_bytes": None,
        "cpu_percent": None,
        "memory_trend": None,
        "says": slot.says,
    }
    if backend is None:
        return shown
    life = life_of(backend.id)
    pid = life.process.pid if life is not None and life.process is not None else None
    resources = usage.of(pid) if pid is not None else None
    return shown | {
        "group": backend.group,
        "address": backend.address,
        "pid": pid,
        "generation": backend.id.generation,
        "phase": backend.phase.value,
        "health": backend.health.value,
        "intent": backend.intent.value,
        "takes_requests": backend.takes_requests,
        "weight": backend.weight,
        "in_flight": truth.ledger.table.in_flight(backend.row),
        "uptime_seconds": round(now() - backend.since, 3),
        "heartbeat_seconds": round(now() - life.beat_at, 3) if life is not None and life.beat_at else None,
        "probe": _probe_status(life.signs.last_probe if life is not None else None),
        "memory_bytes": resources.memory_bytes if resources else None,
        "cpu_percent": resources.cpu_percent if resources else None,
        "memory_trend": _memory_trend(truth, slot, backend),
    }


def _probe_status(last: ProbeResult | None) -> dict[str, Any] | None:
    """The last probe; None where none has ended yet, or nothing is probed."""
    if last is None:
        return None
    return {
        "result": "pass" if last.passed else "fail",
        "reason": last.reason,
        "status": last.status,
        "age_seconds": round(now() - last.at, 3),
        "duration_seconds": round(last.seconds, 6),
    }


def _memory_trend(truth: Truth, slot: Slot, backend: Backend) -> dict[str, Any] | None:
    """Where it is going, for a pool with `restart.max_memory`; None where nothing is known."""
    trend, pool = slot.trends.get(backend.id.generation), truth.settings.pool.get(slot.pool)
    if trend is None or pool is None or not pool.restart.max_memory or not trend.slope:
        return None
    left = trend.seconds_to(pool.restart.max_memory)
    return {
        "bytes_per_minute": round(trend.slope * 60),
        "seconds_to_limit": round(left) if left is not None else None,
    }
