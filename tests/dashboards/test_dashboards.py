"""The Grafana dashboard and the Prometheus rules ask for what the balancer exposes, and mean something to a real Prometheus."""

import re
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse

from balancer.errors import Reason
from balancer.telemetry.exposition import render
from balancer.telemetry.readings import PHASES, PROBE_RESULTS, RELOAD_RESULTS, RESTART_REASONS
from tests.dashboards.queries import RULES, dashboard, groupings, queries, selectors
from tests.dashboards.scraped import prometheus
from tests.support.programs import find
from tests.telemetry.scene import scene

VALUES = {
    "phase": PHASES,
    "result": (*PROBE_RESULTS, *RELOAD_RESULTS),
    "reason": (*RESTART_REASONS, *(reason.value for reason in Reason)),
    "reused": ("true", "false"),
}
ALERTS_TEST = Path(__file__).with_name("alerts_test.yml")
FROM_SCRAPE = {"instance", "job"}


@pytest.fixture(scope="module")
def exposed() -> dict[str, set[str]]:
    """Sample name → its labels."""
    found: dict[str, set[str]] = {}
    for family in parse(render(*scene())[1].decode()):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def every_query() -> dict[str, str]:
    rules = re.sub(r"^\s*#.*$|description:.*$|summary:.*$", "", RULES.read_text(), flags=re.M)
    parts = re.split(r"- (?:alert|record): ", rules)[1:]
    return {**queries(), **{f"rule {part.split()[0]}": part for part in parts}}


@pytest.mark.parametrize(("name", "query"), every_query().items())
def test_queries_ask_for_what_is_there(exposed: dict[str, set[str]], name: str, query: str) -> None:
    recorded = set(re.findall(r"record: (?:[a-z]+:)?(\S+)", RULES.read_text()))
    used: set[str] = set()
    for metric, labels in selectors(query):
        if f":{metric}:" in query or metric in recorded or re.search(rf"[a-z]+:{metric}", query):
            used |= {"pool"}
            continue
        assert metric in exposed, metric
        assert labels <= exposed[metric] | FROM_SCRAPE, (metric, labels)
        used |= exposed[metric]
    assert groupings(query) <= used | FROM_SCRAPE
    for label, values in VALUES.items():
        for value in re.findall(rf'\b{label}(?:=~|=)"([^"]*)"', query):
            assert set(value.split("|")) <= set(values)


def test_the_dashboard_is_whole() -> None:
    board = dashboard()
    ids = [panel["id"] for panel in board["panels"]]
    assert len(ids) == len(set(ids))
    known = {variable["name"] for variable in board["templating"]["list"]}
    assert {"datasource", "instance", "pool", "backend"} <= known
    assert set(re.findall(r"\$\{?([a-z]+)\}?", str(board))) <= known
    for panel in board["panels"]:
        assert panel["title"]
        if panel["type"] != "row":
            assert len(panel["description"]) > 20, panel["title"]
            assert panel["datasource"]["uid"] == "${datasource}"
    assert not overlaps([panel["gridPos"] for panel in board["panels"]])


def overlaps(places: list[dict[str, int]]) -> bool:
    taken: set[tuple[int, int]] = set()
    for place in places:
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        if cells & taken or place["x"] + place["w"] > 24:
            return True
        taken |= cells
    return False


@pytest.mark.needs("promtool", why="the Prometheus rules")
def test_alerts_fire_when_they_should() -> None:
    program = find("promtool")
    assert program is not None
    for command in (["check", "rules", str(RULES)], ["test", "rules", str(ALERTS_TEST)]):
        result = subprocess.run([program, *command], capture_output=True, text=True, timeout=30)
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.needs("promtool", why="the dashboard's queries")
def test_prometheus_answers_every_query(tmp_path: Path) -> None:
    program = find("prometheus")  # it comes with promtool
    assert program is not None
    with prometheus(program, RULES, tmp_path) as scraped:
        scraped.until(lambda: bool(scraped.query("increase(balancer_reloads_total[10s]) > 0")))

        def unanswered() -> set[str]:
            return {name for name, query in queries("10s").items() if not scraped.query(query)}

        # A rate takes two scrapes, and a busy machine may miss some.
        with suppress(AssertionError):
            scraped.until(lambda: not unanswered())
        assert unanswered() == set()
        scraped.until(lambda: all(rule["health"] != "unknown" for rule in rules(scraped.ask("/api/v1/rules"))))
        unwell = [
            (rule["name"], rule.get("lastError"))
            for rule in rules(scraped.ask("/api/v1/rules"))
            if rule["health"] != "ok"
        ]
        assert unwell == []
        scraped.until(lambda: bool(scraped.query("pool:balancer_server_errors:ratio_rate5m")))
        (ratio, *_) = scraped.query('pool:balancer_server_errors:ratio_rate5m{pool="web"}')
        assert 0.2 < float(ratio["value"][1]) < 0.5


def rules(data: dict[str, Any]) -> list[dict[str, Any]]:
    return [rule for group in data["groups"] for rule in group["rules"]]
