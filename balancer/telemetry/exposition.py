"""Everything measured, as Prometheus text or OpenMetrics: what `/metrics` gives. The only door to prometheus_client.

Series are per slot: what a row of the shared table counted for past processes is in the ledger's totals. Requests that no
backend answered stand in their pool's row and have backend=""; those that reached no pool have pool="" as well.
"""

import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import exposition as plain
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.utils import floatToGoString

from balancer import __version__
from balancer.telemetry import table as columns
from balancer.telemetry.ledger import Tally
from balancer.telemetry.readings import (
    DIRECTIONS,
    PHASES,
    RELOAD_RESULTS,
    RESTART_REASONS,
    BackendReading,
    Durations,
    ProcessReading,
    Reading,
)
from balancer.telemetry.table import BUCKETS, REASONS, added, histogram_of, requests_of

_BOUNDS = [*map(floatToGoString, BUCKETS), "+Inf"]
_BACKEND = ["pool", "backend"]
_CLASHING = "balancer_connections"
_HANDSHAKES = {
    "full": columns.HANDSHAKES_FULL,
    "resumed": columns.HANDSHAKES_RESUMED,
    "failed": columns.HANDSHAKES_FAILED,
}


def render(tally: Tally, reading: Reading, openmetrics_wanted: bool = False) -> tuple[str, bytes]:
    """(content type, body). Of many backends it takes a good part of a second, in any thread: nothing here is shared."""
    families = [*_traffic(tally, reading), *_connections(tally, reading), *_proxies(tally), *_supervision(reading)]
    if openmetrics_wanted:
        families = [_apart(family) if family.name == _CLASHING else family for family in families]
        return openmetrics.CONTENT_TYPE_LATEST, openmetrics.generate_latest(_Families(families))  # type: ignore[no-untyped-call]
    return plain.CONTENT_TYPE_PLAIN_0_0_4, plain.generate_latest(_Families(families))


def _apart(family: Metric) -> Metric:
    """The contract has a gauge and a counter that differ by "_total" only. In OpenMetrics a counter's family is named without
    it and would be the gauge's, so there the counter is a family of its own; the names of the samples stay.
    """
    if not isinstance(family, CounterMetricFamily):
        return family
    own = Metric(f"{family.name}_total", family.documentation, "unknown")
    own.samples = family.samples
    return own


class _Families:
    """What the library's encoders ask of a registry, without a registry: nothing is registered anywhere."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        return self._families


def _traffic(tally: Tally, reading: Reading) -> list[Metric]:
    """What the proxies count."""
    requests = _counter(
        "requests", "Requests answered, by the balancer itself where backend is empty.", [*_BACKEND, "method", "code"]
    )
    duration = _histogram(
        "request_duration_seconds", "First byte of the request to last byte of the response.", _BACKEND
    )
    response = _histogram("backend_response_seconds", "Request sent to response head.", _BACKEND)
    request_bytes = _counter("request_bytes", "Bytes of request bodies received from clients.", _BACKEND)
    response_bytes = _counter("response_bytes", "Bytes of response bodies sent to clients.", _BACKEND)
    in_flight = _gauge("requests_in_flight", "Requests being answered now.", _BACKEND)
    upstream = _counter(
        "upstream_connections", "Connections used for a request: new ones and reused ones.", [*_BACKEND, "reused"]
    )
    errors = _counter("errors", "Requests that the balancer answered itself, by why.", ["pool", "reason"])
    retries = _counter("retries", "Further attempts on another backend, by what failed before.", ["pool", "reason"])
    queue_length = _gauge("queue_length", "Requests that wait for a backend now.", ["pool"])
    queue = _histogram("queue_seconds", "Time that requests spent waiting for a backend.", ["pool"])

    def shared(labels: list[str], row: list[int], is_there: bool) -> None:
        for method, code, count in requests_of(row):
            requests.add_metric([*labels, method, code], count)
        _add_histogram(duration, labels, *histogram_of(row, columns.DURATION))
        if is_there or row[columns.REQUEST_BYTES] or row[columns.RESPONSE_BYTES]:
            request_bytes.add_metric(labels, row[columns.REQUEST_BYTES])
            response_bytes.add_metric(labels, row[columns.RESPONSE_BYTES])
        if is_there:
            in_flight.add_metric(labels, max(0, row[columns.IN_FLIGHT]))

    there = {(backend.pool, backend.name) for pool in reading.pools for backend in pool.backends}
    for pool, slot in sorted(there.union(tally.slots)):
        labels, row = [pool, slot], added(tally.slots.get((pool, slot), ())) or [0] * columns.BACKEND_WIDTH
        shared(labels, row, (pool, slot) in there)
        _add_histogram(response, labels, *histogram_of(row, columns.RESPONSE))
        if (pool, slot) in there or row[columns.CONNECTIONS_NEW]:
            upstream.add_metric([*labels, "false"], row[columns.CONNECTIONS_NEW])
            upstream.add_metric([*labels, "true"], row[columns.CONNECTIONS_REUSED])

    pools_there = {"", *(pool.name for pool in reading.pools)}
    for pool, rows in tally.pools.items():
        row, is_there = added(rows), pool in pools_there
        shared([pool, ""], row, is_there)
        for family, start in ((errors, columns.ERRORS), (retries, columns.RETRIES)):
            for reason, count in zip(REASONS, row[start : start + len(REASONS)], strict=True):
                # From zero on, so that the first one shows in increase() too.
                if count or (is_there and pool):
                    family.add_metric([pool, reason.value], count)
        if pool:
            _add_histogram(queue, [pool], *histogram_of(row, columns.QUEUE), is_wanted=is_there)
            if is_there:
                queue_length.add_metric([pool], max(0, row[columns.QUEUE_LENGTH]))

    of_backends: list[Metric] = [requests, duration, response, request_bytes, response_bytes, in_flight, upstream]
    return [*of_backends, errors, retries, queue_length, queue]


def _connections(tally: Tally, reading: Reading) -> list[Metric]:
    now = _gauge("connections", "Client connections open now.", ["listener"])
    total = _counter("connections", "Client connections accepted.", ["listener"])
    handshakes = _counter("tls_handshakes", "TLS handshakes with clients, by how they ended.", ["listener", "result"])
    expiry = _gauge(
        "certificate_expiry_timestamp_seconds", "When a listener's certificate runs out.", ["listener", "certificate"]
    )
    for certificate in reading.certificates:
        expiry.add_metric([certificate.listener, certificate.path], certificate.not_after)
    secure = {certificate.listener for certificate in reading.certificates}
    for name in reading.listeners:
        row = added(tally.listeners.get(name, ())) or [0] * columns.LISTENER_WIDTH
        now.add_metric([name], max(0, row[columns.CONNECTIONS]))
        total.add_metric([name], row[columns.CONNECTIONS_TOTAL])
        for result, column in _HANDSHAKES.items():
            if name in secure or row[column]:
                handshakes.add_metric([name, result], row[column])
    return [now, total, handshakes, expiry]


def _proxies(tally: Tally) -> list[Metric]:
    connections = _gauge("proxy_connections", "Client connections of one proxy process now.", ["process"])
    faults = _counter("proxy_faults", "Exceptions in a proxy process that nobody expected.", ["process"])
    for slot, copy in enumerate(tally.proxies):
        row = added([copy])
        connections.add_metric([f"proxy-{slot}"], max(0, row[columns.PROXY_CONNECTIONS]))
        faults.add_metric([f"proxy-{slot}"], row[columns.FAULTS])
    return [connections, faults]


def _supervision(reading: Reading) -> list[Metric]:
    """What the supervisor knows of backends, reloads and processes."""
    backends = [backend for pool in reading.pools for backend in pool.backends]
    reloads = _counter("reloads", "Reloads of the file, by how they ended.", ["result"])
    for result in sorted({*RELOAD_RESULTS, *reading.reloads}):
        reloads.add_metric([result], reading.reloads.get(result, 0))
    return [
        *_backend_gauges(backends),
        *_backend_counters(backends),
        reloads,
        _single(
            "config_last_reload_successful",
            "1 if the file in force is the one last read.",
            float(reading.last_reload_ok),
        ),
        _single(
            "config_last_reload_timestamp_seconds",
            "When the last reload that succeeded was complete.",
            reading.last_reload_time,
        ),
        _single("config_version", "Grows by one with each reload that is applied.", reading.config_version),
        _build_info(),
        *_processes(reading.processes),
    ]


def _backend_gauges(backends: Sequence[BackendReading]) -> list[Metric]:
    up = _gauge("backend_up", "1 if it runs and is healthy.", _BACKEND)
    takes = _gauge("backend_takes_requests", "1 if it is in rotation.", _BACKEND)
    weight = _gauge("backend_weight", "Its weight in the policy.", _BACKEND)
    generation = _gauge("backend_generation", "How many processes its slot has had: which one is there now.", _BACKEND)
    state = _gauge("backend_state", "1 for the phase that it is in.", [*_BACKEND, "phase"])
    info = _gauge("backend_info", "1, with the group of the pool that it belongs to.", [*_BACKEND, "group"])
    passed = _gauge("backend_last_probe_success", "1 if its last health probe passed.", _BACKEND)
    seconds = _gauge("backend_last_probe_duration_seconds", "Duration of its last health probe.", _BACKEND)
    beat = _gauge("backend_heartbeat_age_seconds", "Time since its last heartbeat.", _BACKEND)
    memory = _gauge("backend_memory_bytes", "Resident memory of its processes.", _BACKEND)
    for backend in backends:
        labels = [backend.pool, backend.name]
        up.add_metric(labels, float(backend.up))
        takes.add_metric(labels, float(backend.takes_requests))
        weight.add_metric(labels, backend.weight)
        generation.add_metric(labels, backend.generation)
        info.add_metric([*labels, backend.group], 1)
        for phase in PHASES:
            state.add_metric([*labels, phase], float(backend.phase == phase))
        if backend.last_probe is not None:
            passed.add_metric(labels, float(backend.last_probe[0]))
            seconds.add_metric(labels, backend.last_probe[1])
        if backend.heartbeat_age is not None:
            beat.add_metric(labels, backend.heartbeat_age)
        if backend.memory_bytes is not None:
            memory.add_metric(labels, backend.memory_bytes)
    return [up, takes, weight, generation, state, info, passed, seconds, beat, memory]


def _backend_counters(backends: Sequence[BackendReading]) -> list[Metric]:
    probes = _counter("backend_probes", "Health probes.", [*_BACKEND, "result"])
    seconds = _histogram("backend_probe_seconds", "Duration of health probes.", [*_BACKEND, "result"])
    ejections = _counter("backend_ejections", "Times it was taken out of rotation for what traffic showed.", _BACKEND)
    restarts = _counter("backend_restarts", "Times its process was replaced.", [*_BACKEND, "reason"])
    cpu = _counter("backend_cpu_seconds", "CPU time of its processes.", _BACKEND)
    shown = "Lines on its channel: received from it, garbage from it, sent to it, dropped as it does not read."
    messages = _counter("messages", shown, [*_BACKEND, "direction"])
    for backend in backends:
        labels = [backend.pool, backend.name]
        for result, durations in backend.probes.items():
            probes.add_metric([*labels, result], durations.count)
            _add_durations(seconds, [*labels, result], durations)
        ejections.add_metric(labels, backend.ejections)
        for reason, count in _with_zeros(RESTART_REASONS, backend.restarts):
            restarts.add_metric([*labels, reason], count)
        if backend.cpu_seconds is not None:
            cpu.add_metric(labels, backend.cpu_seconds)
        for direction, count in _with_zeros(DIRECTIONS, backend.messages):
            messages.add_metric([*labels, direction], count)
    return [probes, seconds, ejections, restarts, cpu, messages]


def _processes(processes: Sequence[ProcessReading]) -> list[Metric]:
    memory = _gauge("process_resident_memory_bytes", "Resident memory of the supervisor or a proxy.", ["process"])
    cpu = _counter("process_cpu_seconds", "CPU time of the supervisor or a proxy.", ["process"])
    fds = _gauge("process_open_fds", "Open file descriptors of the supervisor or a proxy.", ["process"])
    start = _gauge("process_start_time_seconds", "When the process started, in Unix time.", ["process"])
    restarts = _counter("process_restarts", "Times a proxy process was replaced.", ["process"])
    for process in processes:
        labels = [process.name]
        memory.add_metric(labels, process.memory_bytes)
        cpu.add_metric(labels, process.cpu_seconds)
        fds.add_metric(labels, process.open_fds)
        start.add_metric(labels, process.start_time)
        restarts.add_metric(labels, process.restarts)
    return [memory, cpu, fds, start, restarts]


def _build_info() -> Metric:
    info = _gauge("build_info", "1, with what runs here.", ["version", "python"])
    info.add_metric([__version__, platform.python_version()], 1)
    return info


def _counter(name: str, text: str, labels: Sequence[str]) -> CounterMetricFamily:
    return CounterMetricFamily(f"balancer_{name}", text, labels=labels)


def _gauge(name: str, text: str, labels: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"balancer_{name}", text, labels=labels)


def _histogram(name: str, text: str, labels: Sequence[str]) -> HistogramMetricFamily:
    return HistogramMetricFamily(f"balancer_{name}", text, labels=labels)


def _single(name: str, text: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"balancer_{name}", text, value=value)


def _add_histogram(
    family: HistogramMetricFamily, labels: Sequence[str], counts: Sequence[int], total: float, is_wanted: bool = False
) -> None:
    """From counts per bucket, which are added up here; one that has seen nothing is left out unless it is wanted even so."""
    if not any(counts) and not is_wanted:
        return
    reached = 0
    buckets = []
    for bound, count in zip(_BOUNDS, counts, strict=True):
        reached += count
        buckets.append((bound, reached))
    family.add_metric(labels, buckets=buckets, sum_value=total)


def _add_durations(family: HistogramMetricFamily, labels: Sequence[str], durations: Durations) -> None:
    _add_histogram(family, labels, durations.counts, durations.total)


def _with_zeros(known: Sequence[str], counts: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Every known one, also those that did not happen, then any other."""
    for name in dict.fromkeys((*known, *counts)):
        yield name, counts.get(name, 0)
