"""A balancer's numbers with something in every series, for the exposition and the dashboards."""

from balancer.errors import Reason
from balancer.telemetry import table as columns
from balancer.telemetry.ledger import Ledger, Tally
from balancer.telemetry.readings import (
    BackendReading,
    CertificateReading,
    Durations,
    PoolReading,
    ProcessReading,
    Reading,
)
from balancer.telemetry.table import REASON_OFFSET, Table, observe, requests_cell

PROXIES = 2


def scene(rounds: int = 1) -> tuple[Tally, Reading]:
    """Two pools, three backends, and a fourth that was there once; everything counted `rounds` times."""
    table = Table.create(PROXIES)
    ledger = Ledger(table)
    listener = ledger.listener("web")
    backends = [("web", "web-0"), ("web", "web-1"), ("api", "api-0")]
    for pool, slot in (*backends, ("web", "web-9")):
        row, pool_row = ledger.open(pool, slot), ledger.pool(pool)
        for proxy in range(PROXIES):
            _count(table, proxy, row, pool_row, listener, rounds)
        if slot == "web-9":
            ledger.close(pool, slot, row)
    no_pool = table.pool_base(1, 0)
    table.cells[requests_cell(no_pool, b"GET", 404)] += rounds
    table.cells[no_pool + columns.ERRORS + REASON_OFFSET[Reason.NO_ROUTE]] += rounds
    return ledger.tally(), _reading(backends, rounds)


def _count(table: Table, proxy: int, row: int, pool_row: int, listener: int, rounds: int) -> None:
    cells, backend, pool = table.cells, table.backend_base(proxy, row), table.pool_base(proxy, pool_row)
    for code in (200, 200, 404, 502):
        cells[requests_cell(backend, b"GET", code)] += rounds
        for _ in range(rounds):
            observe(cells, backend + columns.DURATION, 0.02)
            observe(cells, backend + columns.RESPONSE, 0.01)
    cells[requests_cell(pool, b"POST", 503)] += rounds
    observe(cells, pool + columns.DURATION, 10.0)
    observe(cells, pool + columns.QUEUE, 10.0)
    cells[backend + columns.IN_FLIGHT] = 2
    cells[pool + columns.QUEUE_LENGTH] = 3
    cells[pool + columns.ERRORS + REASON_OFFSET[Reason.QUEUE_TIMEOUT]] += rounds
    cells[pool + columns.RETRIES + REASON_OFFSET[Reason.RESET]] += rounds
    cells[backend + columns.REQUEST_BYTES] += 10 * rounds
    cells[backend + columns.RESPONSE_BYTES] += 1000 * rounds
    cells[backend + columns.CONNECTIONS_NEW] += rounds
    cells[backend + columns.CONNECTIONS_REUSED] += 3 * rounds
    cells[table.listener_base(proxy, listener) + columns.CONNECTIONS] = 5
    cells[table.listener_base(proxy, listener) + columns.CONNECTIONS_TOTAL] += 7 * rounds
    cells[table.proxy_base(proxy) + columns.PROXY_CONNECTIONS] = 5
    cells[table.proxy_base(proxy) + columns.FAULTS] = rounds


def _reading(backends: list[tuple[str, str]], rounds: int) -> Reading:
    passed, failed = Durations(), Durations()
    for _ in range(rounds):
        passed.observe(0.004)
        failed.observe(2.0)
    pools: dict[str, list[BackendReading]] = {}
    for pool, name in backends:
        reading = BackendReading(
            pool=pool,
            name=name,
            phase="running",
            up=True,
            takes_requests=True,
            weight=2,
            generation=3,
            last_probe=(False, 0.25),
            heartbeat_age=1.5,
            ejections=rounds,
            probes={"pass": passed, "fail": failed},
            restarts={"crash": rounds},
            messages={"received": 4},
            memory_bytes=50_000_000,
            cpu_seconds=1.5 * rounds,
        )
        pools.setdefault(pool, []).append(reading)
    processes = [
        ProcessReading("supervisor", 30_000_000, 1.0 * rounds, 20, 1.7e9),
        ProcessReading("proxy-0", 25_000_000, 9.0 * rounds, 99, 1.7e9, restarts=rounds),
    ]
    return Reading(
        pools=[PoolReading(name, found) for name, found in pools.items()],
        listeners=["web"],
        processes=processes,
        reloads={"ok": rounds},
        last_reload_time=1.7e9,
        certificates=[CertificateReading("web", "/etc/site.pem", 1.7e9, 1.8e9)],
    )
