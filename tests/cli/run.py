"""Runs the command line inside the test: what it said and how it ended."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import trio

from balancer.cli.command import entry

MINIMAL = """\
[listen.web]
address = "127.0.0.1:0"

[pool.web]
command = "python -m http.server {port} --bind {host}"
"""


@dataclass(frozen=True, slots=True)
class Result:
    """Exit code and output of one command."""

    code: int
    out: str
    err: str


class Cli:
    """`cli("status", "--json")`; `await cli.later(…)` in a thread, beside a server in the test."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *args: str | Path) -> Result:
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            entry([str(arg) for arg in args])
        out, err = self._capsys.readouterr()
        code = ended.value.code
        assert isinstance(code, int)
        return Result(code, out, err)

    async def later(self, *args: str | Path) -> Result:
        return await trio.to_thread.run_sync(partial(self, *args))
