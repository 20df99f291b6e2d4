"""What the README promises about the checkout is true."""

import re

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
    named = re.findall(r"`((?:http1|pool|proxy|settings|supervisor|telemetry|cli|admin)/[\w*]*)`", README)
    assert len(named) > 15
    missing = [
        name for name in named if not list(package.glob(name.rstrip("/"))) and not list(package.glob(f"{name}.py"))
    ]
    assert missing == []
