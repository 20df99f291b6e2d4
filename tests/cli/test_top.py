"""`balancer top` in a real pseudo-terminal, against operations that answer what the test wants."""

import json
import os
import pty
import subprocess
import sys
import termios
from pathlib import Path

import pytest
import trio

from balancer.cli.top import Rates
from tests.admin.fake import BACKEND, STATUS, FakeOperations, controlled
from tests.cli.run import Cli
from tests.support.running import ROOT


async def until_shown(terminal: int, *parts: bytes) -> bytes:
    """What comes out of it until all of these have."""
    shown = b""
    with trio.fail_after(30):
        while not all(part in shown for part in parts):
            await trio.lowlevel.wait_readable(terminal)
            shown += os.read(terminal, 65536)
    return shown


@pytest.mark.parametrize("key", [b"q", b"\x1b"])
async def test_it_shows_what_changes_until_q(config: Path, key: bytes) -> None:
    operations = FakeOperations()
    async with controlled(operations, config.with_suffix(".sock")):
        ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 120))
        before = termios.tcgetattr(theirs)
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "balancer", "top", "--interval", "0.1", "-c", str(config)],
            stdin=theirs, stdout=theirs, stderr=subprocess.PIPE, start_new_session=True,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
        try:
            await until_shown(ours, b"web-0", b"ready", b"1234567", b"q ends")
            grown = {**BACKEND, "requests_total": 1234667, "in_flight": 77}
            operations.status_value = {**STATUS, "pools": [{**STATUS["pools"][0], "backends": [grown]}]}
            await until_shown(ours, b"77", b"1234667", b" req/s")
            os.write(ours, b"\x1b[A")  # an arrow is not an end
            await until_shown(ours, b"web-0")
            assert process.returncode is None
            os.write(ours, key)
            with trio.fail_after(30):
                # It waits until what it wrote has been read.
                await until_shown(ours, b"\x1b[?1049l")
                assert await process.wait() == 0
            assert termios.tcgetattr(theirs) == before
        finally:
            process.kill()
            os.close(ours)
            os.close(theirs)


def test_it_needs_a_terminal(cli: Cli, config: Path) -> None:
    result = cli("top", "-c", config)
    assert result.code == 1
    assert result.err == "top needs a terminal, or --json; balancer status prints the same once\n"


def test_rates_are_of_the_time_between_two_looks() -> None:
    rates = Rates()
    assert rates.of(STATUS, 10.0) == {}
    later = {**BACKEND, "requests_total": BACKEND["requests_total"] + 30}  # type: ignore[operator]
    new = {**BACKEND, "name": "web-1", "requests_total": 5}
    status = {**STATUS, "pools": [{**STATUS["pools"][0], "backends": [later, new]}]}
    assert rates.of(status, 12.0) == {"web-0": 15.0}
    assert rates.of(status, 13.0) == {"web-0": 0.0, "web-1": 0.0}


async def test_it_is_a_line_of_json_per_look(cli: Cli, config: Path) -> None:
    operations = FakeOperations()
    async with controlled(operations, config.with_suffix(".sock")):
        result = await cli.later("top", "--json", "-n", "3", "--interval", "0.1", "-c", config)
    assert (result.code, result.err) == (0, "")
    looks = [json.loads(line) for line in result.out.splitlines()]
    shown = [
        (look["pools"][0]["requests_per_second"], look["pools"][0]["backends"][0]["requests_per_second"])
        for look in looks
    ]
    assert shown == [(None, None), (0.0, 0.0), (0.0, 0.0)]
    assert looks[2]["time"] - looks[0]["time"] >= 0.15
    for look in looks:
        del (
            look["time"],
            look["pools"][0]["requests_per_second"],
            look["pools"][0]["backends"][0]["requests_per_second"],
        )
        assert look == STATUS
