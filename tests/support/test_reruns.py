"""What gets a second look gets exactly one, with its own time limit, and is named; what is pure gets none."""

import subprocess
import sys
from pathlib import Path

from tests.support.running import ROOT

TESTS = """
import itertools
import signal

import pytest
import trio
from hypothesis import given, strategies

looks = itertools.count()

@pytest.fixture
async def look():
    await trio.lowlevel.checkpoint()
    yield next(looks)

async def test_in_a_hurry(look):
    await trio.lowlevel.checkpoint()
    assert look == 1, "the first look"

def test_broken():
    assert False

@pytest.mark.timeout(0.3)
def test_hanging():
    signal.pause()

@given(strategies.booleans())
def test_property(value):
    assert False
"""


def run(folder: Path, *options: str) -> tuple[int, str]:
    """A run with this project's configuration over a `tests` folder of its own: (exit code, output)."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-p",
        "tests.conftest",
        "-p",
        "no:cacheprovider",
        "-c",
        f"{ROOT}/pyproject.toml",
    ]
    done = subprocess.run(
        [*command, "--rootdir", str(folder), *options, "tests"], cwd=folder, capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout


def test_real_ones_are_tried_once_more_and_named(tmp_path: Path) -> None:
    for part in ("demo", "http1"):
        (tmp_path / "tests" / part).mkdir(parents=True)
        (tmp_path / "tests" / part / "test_some.py").write_text(TESTS)
    code, text = run(tmp_path, "-k", "hurry and demo")
    assert code == 0, text
    assert "1 passed" in text
    assert "1 rerun" in text
    assert "RERUN tests/demo/test_some.py::test_in_a_hurry" in text
    assert "the first look" in text
    code, text = run(tmp_path)
    assert code == 1
    assert "7 failed, 1 passed, 3 rerun" in text
    reruns = {line.rpartition("::")[2] for line in text.splitlines() if line.startswith("RERUN tests/demo/")}
    assert reruns == {"test_in_a_hurry", "test_broken", "test_hanging"}
    assert "RERUN tests/http1" not in text


def test_without_the_plugin_or_with_a_debugger_there_is_one_look(tmp_path: Path) -> None:
    (tmp_path / "tests" / "demo").mkdir(parents=True)
    (tmp_path / "tests" / "demo" / "test_some.py").write_text(TESTS)
    for options in (("-p", "no:rerunfailures"), ("--pdb",)):
        code, text = run(tmp_path, "-k", "hurry", *options)
        assert code != 0
        assert "1 failed" in text
