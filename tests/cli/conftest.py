"""Fixtures of the command line's tests."""

from pathlib import Path

import pytest

from tests.cli.run import MINIMAL, Cli


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A good file, with nothing in the environment that names another."""
    monkeypatch.delenv("BALANCER_CONFIG", raising=False)
    monkeypatch.delenv("RUNTIME_DIRECTORY", raising=False)
    path = tmp_path / "cluster.toml"
    path.write_text(MINIMAL)
    return path
