"""The files under deploy/ are read by the programs they are for."""

import re
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from balancer.settings.load import load
from balancer.settings.model import Settings
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


def test_the_cluster_of_unit_and_image_is_valid(tmp_path: Path) -> None:
    is_valid((DEPLOY / "cluster.toml").read_text(), tmp_path)


def test_the_cluster_in_the_manifest_is_valid_and_its_grace_is_long_enough(tmp_path: Path) -> None:
    manifest = (DEPLOY / "kubernetes.yaml").read_text()
    (text,) = re.findall(r"^  cluster\.toml: \|\n((?:    .*\n|\n)+)", manifest, re.M)
    (tmp_path / "token").write_text("secret")
    settings = is_valid(textwrap.dedent(text).replace("/run/secrets/balancer/", f"{tmp_path}/"), tmp_path)
    (grace,) = map(int, re.findall(r"terminationGracePeriodSeconds: (\d+)", manifest))
    stops = max(pool.stop.timeout for pool in settings.pool.values())
    assert grace > settings.proxy.shutdown_delay + settings.proxy.shutdown_timeout + stops
    assert settings.admin.address is not None
    assert settings.admin.address.is_wildcard
    assert f"containerPort: {settings.admin.address.port}" in manifest


def is_valid(text: str, folder: Path) -> Settings:
    """`balancer check` has nothing to say of it, on a machine that has its folders."""
    file = folder / "cluster.toml"
    file.write_text(text.replace("/run/balancer/", f"{folder}/"))
    said = run(sys.executable, "-m", "balancer", "check", "--config", str(file)).splitlines()
    # How much memory and how many CPUs this machine has is not the file's fault.
    assert [line for line in said if not re.match(r"memory: |warning: \d+ backends on \d+ CPU", line)] == ["ok"]
    return load(file)


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
