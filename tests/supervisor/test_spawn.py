"""What is said of a program that cannot be started."""

import os
import shutil
from pathlib import Path

import pytest

from balancer.supervisor.spawn import CannotStart, start


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_whose_permission_is_missing_is_said(tmp_path: Path) -> None:
    program = str(shutil.copy("/bin/true", tmp_path))
    tmp_path.chmod(0o700)
    with pytest.raises(CannotStart, match=rf"^cannot be started as user nobody: {program}: Permission denied$"):
        start([program], env={}, cwd="/", user="nobody")
