"""The files under deploy/ are read by the programs they are for."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import find
from tests.support.running import ROOT

DEPLOY = ROOT / "deploy"


@pytest.mark.needs("promtool", why="deploy/prometheus")
def test_prometheus_reads_its_file(tmp_path: Path) -> None:
    shutil.copy(DEPLOY / "prometheus" / "prometheus.yml", tmp_path)
    shutil.copy(ROOT / "dashboards" / "alerts.yml", tmp_path)
    run(find("promtool"), "check", "config", str(tmp_path / "prometheus.yml"))


@pytest.mark.needs("systemd-analyze", why="deploy/balancer.service")
def test_systemd_reads_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "balancer.service"
    # systemd wants to see the program itself; any that is there will do.
    unit.write_text((DEPLOY / "balancer.service").read_text().replace("/opt/balancer/bin/balancer", "/bin/true"))
    said = run(find("systemd-analyze"), "verify", "--man=no", str(unit))
    assert [line for line in said.splitlines() if "balancer.service" in line] == []


def test_the_image_s_cluster_is_valid() -> None:
    assert (
        run(sys.executable, "-m", "balancer", "check", "--config", str(DEPLOY / "cluster.toml")).strip().endswith("ok")
    )


def test_the_image_is_told_of_every_file_it_copies() -> None:
    """What the Dockerfile copies exists, and the ignore file lets it through."""
    copied = [
        word
        for line in (DEPLOY / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    ]
    allowed = (DEPLOY / "Dockerfile.dockerignore").read_text()
    assert copied
    assert [name for name in copied if not (ROOT / name).exists() or f"!{name}\n" not in allowed] == []


def run(*command: str | None) -> str:
    """Everything that it said. AssertionError with that when it does not end with 0."""
    assert command[0]
    done = subprocess.run(
        [word for word in command if word],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        stdin=subprocess.DEVNULL,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    return said
