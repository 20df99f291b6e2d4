"""Who may import whom: the contracts in pyproject.toml."""

import tomllib

import pytest
from importlinter.cli import lint_imports

from tests.architecture.source import ROOT, modules


def test_contracts_hold(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(ROOT)
    broken = lint_imports(cache_dir=None)
    assert broken == 0, capsys.readouterr().out


def test_every_package_has_its_layer() -> None:
    """A new package must be put somewhere on purpose, or stand outside on purpose."""
    outside = {"balancer.demo": "a program of its own", "balancer.backend": "for backends, standard library only"}
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = " ".join(next(c for c in contracts if c["type"] == "layers")["layers"]).replace("|", " ").replace(":", " ")
    placed = {".".join(layer.strip("()").split(".")[:2]) for layer in layers.split()} | set(outside)
    parts = {".".join(m.name.split(".")[:2]) for m in modules()} - {"balancer", "balancer.__main__"}
    assert parts - placed == set()
