"""The load generator must count what goes wrong, else every test that trusts it proves nothing."""

import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import trio

from tests.support.apps import APP
from tests.support.load import load
from tests.support.ports import free_port


@pytest.fixture
async def backend() -> AsyncIterator[tuple[trio.Process, int]]:
    port = free_port()
    process = await trio.lowlevel.open_process(
        [sys.executable, str(APP), "--port", str(port)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert process.stdout is not None
    with trio.fail_after(5):
        await process.stdout.receive_some()
    yield process, port
    process.kill()
    await process.wait()


async def test_all_is_well(backend: tuple[trio.Process, int]) -> None:
    async with load(backend[1], rate=500) as traffic:
        await traffic.more(100)
    assert not traffic.failures
    assert traffic.answers[200] >= 100
    assert traffic.backends.total() >= 40


async def test_a_dying_backend_shows(backend: tuple[trio.Process, int]) -> None:
    process, port = backend
    async with load(port, rate=500, timeout=2) as traffic:
        await traffic.more(50)
        process.send_signal(signal.SIGTERM)
        await traffic.more(50)
    assert any("on a kept connection" in reason for reason in traffic.failures)
    assert any("Refused" in reason for reason in traffic.failures), traffic.failures
