"""`/metrics`: names, labels and types of the contract, judged by the readers that exist."""

import math
import subprocess
import time

import pytest
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_plain

from balancer.telemetry.exposition import render
from balancer.telemetry.ledger import Ledger
from balancer.telemetry.readings import BackendReading, PoolReading, Reading
from balancer.telemetry.table import Table, observe
from tests.telemetry.scene import scene

CONTRACT = {
    "balancer_requests_total": ("counter", "pool backend method code"),
    "balancer_request_duration_seconds": ("histogram", "pool backend"),
    "balancer_backend_response_seconds": ("histogram", "pool backend"),
    "balancer_request_bytes_total": ("counter", "pool backend"),
    "balancer_response_bytes_total": ("counter", "pool backend"),
    "balancer_requests_in_flight": ("gauge", "pool backend"),
    "balancer_errors_total": ("counter", "pool reason"),
    "balancer_retries_total": ("counter", "pool reason"),
    "balancer_queue_length": ("gauge", "pool"),
    "balancer_queue_seconds": ("histogram", "pool"),
    "balancer_backend_up": ("gauge", "pool backend"),
    "balancer_backend_takes_requests": ("gauge", "pool backend"),
    "balancer_backend_weight": ("gauge", "pool backend"),
    "balancer_backend_generation": ("gauge", "pool backend"),
    "balancer_backend_info": ("gauge", "pool backend group"),
    "balancer_backend_state": ("gauge", "pool backend phase"),
    "balancer_backend_probes_total": ("counter", "pool backend result"),
    "balancer_backend_probe_seconds": ("histogram", "pool backend result"),
    "balancer_backend_ejections_total": ("counter", "pool backend"),
    "balancer_backend_restarts_total": ("counter", "pool backend reason"),
    "balancer_backend_memory_bytes": ("gauge", "pool backend"),
    "balancer_backend_cpu_seconds_total": ("counter", "pool backend"),
    "balancer_connections": ("gauge", "listener"),
    "balancer_connections_total": ("counter", "listener"),
    "balancer_upstream_connections_total": ("counter", "pool backend reused"),
    "balancer_messages_total": ("counter", "pool backend direction"),
    "balancer_reloads_total": ("counter", "result"),
    "balancer_config_last_reload_successful": ("gauge", ""),
    "balancer_config_last_reload_timestamp_seconds": ("gauge", ""),
    "balancer_build_info": ("gauge", "version python"),
    "balancer_process_resident_memory_bytes": ("gauge", "process"),
    "balancer_process_cpu_seconds_total": ("counter", "process"),
}


def _parsed(openmetrics: bytes) -> list[Metric]:
    return list(parse_openmetrics(openmetrics.decode()))  # type: ignore[no-untyped-call]


def families(body: bytes) -> dict[str, Metric]:
    """By the name that a sample has; the parser names a counter without its _total."""
    found = list(parse_plain(body.decode()))
    return {f"{family.name}_total" if family.type == "counter" else family.name: family for family in found}


def value(found: dict[str, Metric], name: str, sample: str = "", **labels: str) -> float:
    (one,) = [s.value for s in found[name].samples if s.name == name + sample and s.labels == labels]
    return float(one)


def test_the_contract() -> None:
    content_type, body = render(*scene())
    assert content_type == "text/plain; version=0.0.4; charset=utf-8"
    found = families(body)
    assert CONTRACT.keys() <= found.keys()
    for name, (kind, labels) in CONTRACT.items():
        assert found[name].type == kind, name
        assert found[name].documentation
        for sample in found[name].samples:
            assert set(sample.labels) - {"le"} == set(labels.split()), name


def test_numbers_come_through() -> None:
    found = families(render(*scene())[1])
    web = {"pool": "web", "backend": "web-0"}
    assert value(found, "balancer_requests_total", method="GET", code="200", **web) == 4
    assert value(found, "balancer_requests_total", method="POST", code="503", pool="api", backend="") == 2
    assert value(found, "balancer_requests_total", method="GET", code="404", pool="", backend="") == 1
    assert value(found, "balancer_errors_total", pool="", reason="no_route") == 1
    assert value(found, "balancer_errors_total", pool="api", reason="queue_timeout") == 2
    assert value(found, "balancer_errors_total", pool="api", reason="reset") == 0
    assert value(found, "balancer_request_duration_seconds", "_count", **web) == 8
    assert value(found, "balancer_request_duration_seconds", "_sum", **web) == pytest.approx(0.16)
    assert value(found, "balancer_request_duration_seconds", "_bucket", le="0.01", **web) == 0
    assert value(found, "balancer_request_duration_seconds", "_bucket", le="0.025", **web) == 8
    assert value(found, "balancer_request_duration_seconds", "_bucket", le="+Inf", **web) == 8
    assert value(found, "balancer_requests_in_flight", **web) == 4
    assert value(found, "balancer_queue_length", pool="api") == 6
    assert value(found, "balancer_backend_generation", **web) == 3
    assert value(found, "balancer_backend_last_probe_success", **web) == 0
    assert value(found, "balancer_backend_last_probe_duration_seconds", **web) == 0.25
    assert value(found, "balancer_backend_heartbeat_age_seconds", **web) == 1.5
    assert value(found, "balancer_backend_state", phase="running", **web) == 1
    assert value(found, "balancer_backend_state", phase="hold", **web) == 0
    assert value(found, "balancer_backend_restarts_total", reason="memory", **web) == 0
    assert value(found, "balancer_upstream_connections_total", reused="true", **web) == 6
    assert value(found, "balancer_connections_total", listener="web") == 56


def test_a_backend_that_is_gone_keeps_its_counters_and_loses_its_gauges() -> None:
    found = families(render(*scene())[1])
    assert value(found, "balancer_requests_total", method="GET", code="200", pool="web", backend="web-9") == 4
    for name, family in found.items():
        if family.type == "gauge":
            assert not any(sample.labels.get("backend") == "web-9" for sample in family.samples), name


def test_what_has_not_happened_yet_counts_from_zero() -> None:
    ledger = Ledger(Table.create(1))
    ledger.pool("web")
    found = families(render(ledger.tally(), Reading(pools=[PoolReading("web")], listeners=["web"]))[1])
    assert value(found, "balancer_queue_seconds", "_count", pool="web") == 0
    assert value(found, "balancer_errors_total", pool="web", reason="queue_full") == 0
    assert value(found, "balancer_reloads_total", result="failed") == 0
    assert value(found, "balancer_connections_total", listener="web") == 0


def test_openmetrics_says_the_same() -> None:
    content_type, body = render(*scene(), openmetrics_wanted=True)
    assert content_type.startswith("application/openmetrics-text")
    samples = {(s.name, *sorted(s.labels.items())): s.value for f in _parsed(body) for s in f.samples}
    plain = {
        (s.name, *sorted(s.labels.items())): s.value for f in families(render(*scene())[1]).values() for s in f.samples
    }
    assert samples == plain


def test_names_with_quotes_are_escaped() -> None:
    name = 'we"b\\\n'
    ledger = Ledger(Table.create(1))
    reading = Reading(
        pools=[PoolReading(name, [BackendReading(name, f"{name}-0", "hold", False, False, 1)])], listeners=[name]
    )
    found = families(render(ledger.tally(), reading)[1])
    assert value(found, "balancer_backend_up", pool=name, backend=f"{name}-0") == 0


@pytest.mark.needs("promtool", why="the exposition")
@pytest.mark.parametrize("rounds", [1, 3])
def test_promtool_is_content(rounds: int) -> None:
    _, body = render(*scene(rounds))
    found = subprocess.run(["promtool", "check", "metrics"], input=body, capture_output=True, timeout=30)
    assert (found.stdout + found.stderr).decode() == ""


def test_hundreds_of_backends_are_no_burden() -> None:
    ledger = Ledger(Table.create(2))
    row = ledger.pool("web")
    assert row == 1
    backends = []
    for index in range(300):
        base = ledger.table.backend_base(0, ledger.open("web", f"web-{index}"))
        ledger.table.cells[base] += 1
        observe(ledger.table.cells, base + 600, math.e)
        backends.append(BackendReading("web", f"web-{index}", "running", True, True, 1))
    begun = time.process_time()
    render(ledger.tally(), Reading(pools=[PoolReading("web", backends)], listeners=["web"]))
    assert time.process_time() - begun < 1
