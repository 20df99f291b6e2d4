"""A missing program is named, and fails the run in CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import ROOT

TESTS = """
import pytest

@pytest.mark.needs("ruby", why="Ruby backends")
def test_with_a_program():
    pass

def test_without():
    pass
"""


@pytest.mark.parametrize("in_ci", [False, True])
def test_what_could_not_be_tried(tmp_path: Path, in_ci: bool) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    # A path that holds nothing: neither the program nor an apt-get that could bring it.
    env = {name: value for name, value in os.environ.items() if name != "CI"}
    env |= {"PATH": str(tmp_path), "PYTHONPATH": str(ROOT)} | ({"CI": "true"} if in_ci else {})
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "tests.conftest", "--rootdir", str(tmp_path), str(tmp_path)],
        env=env, cwd=tmp_path, capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert "ruby (Debian: ruby): Ruby backends" in done.stdout
    assert done.returncode == (1 if in_ci else 0), done.stdout
    assert ("1 passed, 1 error" if in_ci else "1 passed, 1 skipped") in done.stdout
