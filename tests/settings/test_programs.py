import os
import sys
from pathlib import Path

import pytest

from balancer.settings.programs import ProgramNotFound, resolve, search_path

_OWN = os.path.dirname(sys.executable)


def _in_venv(monkeypatch: pytest.MonkeyPatch, *, yes: bool) -> None:
    monkeypatch.setattr(sys, "prefix", "/venv" if yes else "/usr")
    monkeypatch.setattr(sys, "base_prefix", "/usr")


def test_an_environment_that_was_not_activated_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_venv(monkeypatch, yes=True)
    assert search_path({"PATH": "/a:/b"}) == f"{_OWN}:/a:/b"
    assert search_path({"PATH": "/a", "VIRTUAL_ENV": "/venv"}) == f"{_OWN}:/a"


def test_another_environment_or_none_is_not_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    _in_venv(monkeypatch, yes=True)
    assert search_path({"PATH": "/a", "VIRTUAL_ENV": "/other"}) == f"/a:{_OWN}"
    assert search_path({"PATH": f"/a:{_OWN}"}) == f"/a:{_OWN}"
    _in_venv(monkeypatch, yes=False)
    assert search_path({"PATH": "/a"}) == f"/a:{_OWN}"


def test_the_program_is_absolute_and_the_rest_stays() -> None:
    assert resolve(["sh", "-c", "x"], "/", "/nowhere:/bin") == ("/bin/sh", "-c", "x")
    assert resolve(["bin/sh"], "/", "") == ("/bin/sh",)


def test_a_program_that_is_not_there(tmp_path: Path) -> None:
    for program in ("none", "./none", str(tmp_path)):
        with pytest.raises(ProgramNotFound):
            resolve([program], str(tmp_path), "/bin")
