"""What the README promises about the checkout is true."""

import re

import pytest
import tomli

from balancer.cli.command import VERBS
from balancer.pool.lifecycle import TRANSITIONS, Phase, Step
from balancer.settings import checks, handovers, tls
from balancer.settings.model import Settings
from balancer.supervisor.signals import NOT_AVAILABLE
from tests.architecture.source import ROOT

README = (ROOT / "README.md").read_text()


def test_ci_runs_the_test_command() -> None:
    commands = re.findall(r"^python3 -m venv .venv && (.+)$", README, re.M)
    assert len(commands) == 2
    assert commands[0].endswith("balancer --config config/demo.toml")
    install, test = commands[1].replace(".venv/bin/", "").split(" && ")
    script = (ROOT / ".ci" / "run").read_text()
    assert install.partition("install ")[2] in script
    assert f"check {test}\n" in script


def test_links_lead_somewhere() -> None:
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []


def test_the_map_names_what_is_there() -> None:
    package = ROOT / "balancer"
    named = re.findall(r"`((?:http1|net|pool|proxy|settings|supervisor|telemetry|channel|cli|admin)/[\w*]*)`", README)
    assert len(named) > 15
    missing = [
        name for name in named if not list(package.glob(name.rstrip("/"))) and not list(package.glob(f"{name}.py"))
    ]
    assert missing == []


def test_the_transitions_are_those_of_the_code() -> None:
    begin, end = "<!-- transitions: begin -->\n", "<!-- transitions: end -->"
    assert README.partition(begin)[2].partition(end)[0] == transitions()


def transitions() -> str:
    """`pool.lifecycle.TRANSITIONS` as a table: phases down, steps across."""
    lines = ["| | " + " | ".join(Step) + " |", "| --- " * (len(Step) + 1) + "|"]
    lines += [
        f"| **{phase}** | " + " | ".join(str(TRANSITIONS.get((phase, step), "")) for step in Step) + " |"
        for phase in Phase
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("snippet", re.findall(r"^```toml\n(.+?)^```", README, re.M | re.S))
def test_its_settings_are_good(snippet: str) -> None:
    """Fragments too, with a listener and a command beside them."""
    document = tomli.loads(snippet)
    document.setdefault("listen", {"web": {"address": "127.0.0.1:8080"}})
    app = document.setdefault("pool", {}).setdefault("app", {})
    if "group" not in app:
        app.setdefault("command", "true")
    settings = Settings.from_document(document, ROOT / "cluster.toml", "")
    assert [found for part in (checks, handovers, tls) for found in part.findings(settings)] == []


def test_its_tables_are_whole() -> None:
    """Every verb and signal that there is stands in its table, and no other."""
    verbs = re.findall(r"^\| (`balancer.*?) \| ", README, re.M)
    named = set(re.findall(r"(?<=`)(?:balancer )?([a-z]+)", " ".join(verbs)))
    assert named == {*VERBS, "balancer"}
    signals = set(re.findall(r"SIG[A-Z0-9]+", " ".join(re.findall(r"^\| (SIG[^|]+) \|", README, re.M))))
    assert signals >= {number.name for number in NOT_AVAILABLE}
    assert signals == set(re.findall(r"signal\.(SIG[A-Z0-9]+):", process_text())) | {n.name for n in NOT_AVAILABLE}


def test_its_metrics_exist() -> None:
    named = set(re.findall(r"`balancer_([a-z_]+)`", README))
    text = (ROOT / "balancer" / "telemetry" / "exposition.py").read_text()
    assert named
    assert [name for name in sorted(named) if f'"{name.removesuffix("_total")}"' not in text] == []


def test_its_keys_exist() -> None:
    """What stands in the right column of its table of features is a key, or a table, of the file."""
    section = README.partition("## What it does\n")[2].partition("\n### ")[0]
    named = {word for cell in re.findall(r"\| ([^|]+) \|$", section, re.M) for word in re.findall(r"`([^`]+)`", cell)}
    full = (ROOT / "config" / "full.toml").read_text()
    known = set(re.findall(r"^#?([a-z_]+) = ", full, re.M)) | set(re.findall(r"^#?\[+([\w.]+)\]+$", full, re.M))
    known |= {re.sub(r"^(pool|listen)\.web", r"\1.NAME", table) for table in known}
    known |= {table.removeprefix("pool.NAME.") for table in known}
    assert len(named) > 40
    assert sorted(word.strip("[]") for word in named if word.strip("[]") not in known) == []


def process_text() -> str:
    """The module in which signals are given their operations."""
    return (ROOT / "balancer" / "supervisor" / "process.py").read_text()
