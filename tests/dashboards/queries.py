"""Every query of the dashboard, ready for Prometheus, and what a query says of metrics and labels."""

import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[2] / "dashboards"
RULES = FOLDER / "alerts.yml"

_SELECTOR = re.compile(r"\b(balancer_[a-z0-9_]+)(?:\{([^}]*)\})?")
_LABEL = re.compile(r'([a-z_]+)\s*(?:=~|!~|!=|=)\s*"')
_GROUPING = re.compile(r"\b(?:by|on)\s*\(([^)]*)\)")


def dashboard() -> dict[str, Any]:
    """The dashboard as Grafana reads it."""
    found: dict[str, Any] = json.loads((FOLDER / "balancer.json").read_text())
    return found


def queries(window: str = "1m") -> dict[str, str]:
    """Panel title and letter → query, its variables filled in as Grafana does when all is selected."""
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in dashboard()["panels"]
        for target in panel.get("targets", ())
    }
    found |= {f"annotation {a['name']}": a["expr"] for a in dashboard()["annotations"]["list"] if "expr" in a}
    return {name: filled(query, window) for name, query in found.items()}


def filled(query: str, window: str) -> str:
    """Without variables."""
    return re.sub(r"\$(instance|pool|backend)\b", ".*", query.replace("$__rate_interval", window))


def selectors(query: str) -> list[tuple[str, set[str]]]:
    """(metric, labels that it is selected by) of each selector of a query."""
    return [(metric, set(_LABEL.findall(labels or ""))) for metric, labels in _SELECTOR.findall(query)]


def groupings(query: str) -> set[str]:
    """Every label that the query groups or joins by."""
    return {label.strip() for labels in _GROUPING.findall(query) for label in labels.split(",")}
