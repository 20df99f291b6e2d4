"""handover = "socket" with servers that people use: none of them races for a port, and who comes early waits instead of being refused."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.programs import find
from tests.support.running import ROOT, running

APPS = ROOT / "tests" / "apps"


def text(*command: str, backends: int = 2, more: str = "") -> str:
    """A pool of a program that inherits its listening socket."""
    return f"""[listen.web]
address = "127.0.0.1:0"

[pool.web]
command = {json.dumps(command)}
backends = {backends}
handover = "socket"
{more}
"""


async def serves(config: str, *, patience: float = 60.0) -> None:
    """Both backends answer, again after a reload."""
    async with running(config, patience=patience) as balancer:
        assert {(await balancer.get("/")).text for _ in range(4)} == {"web-0", "web-1"}
        done = await balancer.command("reload")
        assert done.returncode == 0, done.stderr + balancer.text
        assert {(await balancer.get("/")).text for _ in range(4)} == {"web-0", "web-1"}


async def test_uvicorn() -> None:
    program = shutil.which("uvicorn", path=str(Path(sys.executable).parent))
    assert program is not None
    await serves(text(program, "--fd", "3", "--log-level", "warning", "--app-dir", str(APPS), "asgi:app"))


async def test_gunicorn_which_says_ready_by_sd_notify() -> None:
    program = shutil.which("gunicorn", path=str(Path(sys.executable).parent))
    assert program is not None
    config = text(program, "--no-control-socket", "--chdir", str(APPS), "wsgi:app", more='ready.when = "message"')
    async with running(config, patience=60) as balancer:
        assert {(await balancer.get("/")).text for _ in range(4)} == {"web-0", "web-1"}
        # What it sent beside READY=1.
        assert {b["says"] for b in await balancer.backends("web")} == {"Gunicorn arbiter booted"}


@pytest.mark.needs("node", why="a listening socket inherited by Node.js")
async def test_node() -> None:
    await serves(text(str(find("node")), str(APPS / "hello.js"), more='env.WAY = "socket"'))


@pytest.mark.needs("go", why="a listening socket inherited by a Go program")
async def test_go(tmp_path: Path) -> None:
    program = tmp_path / "inherit"
    with trio.fail_after(50):
        await trio.run_process([str(find("go")), "build", "-o", str(program), str(APPS / "inherit.go")])
    await serves(text(str(program)))


async def test_who_comes_early_waits_and_the_start_counts_from_the_first_accept() -> None:
    late = text(sys.executable, str(APPS / "late.py"), "2.5", backends=1)
    async with running(late, ready=False) as balancer:
        started = await balancer.line("web-0 started")
        port = int(started.partition("port=")[2].split()[0])
        begun = trio.current_time()
        # Straight to the backend: its program has not even looked at the socket yet.
        answer = await httpx.AsyncClient(timeout=10, trust_env=False).get(f"http://127.0.0.1:{port}/")
        assert answer.text == "web-0"
        assert trio.current_time() - begun > 0.5
        ready = await balancer.line("web-0 ready seconds=")
        assert float(ready.partition("seconds=")[2].split()[0]) > 2.5


async def test_a_backend_that_no_longer_accepts_is_unhealthy() -> None:
    quick = '[pool.web.health]\ninterval = "100ms"\ntimeout = "200ms"\nfall = 2\n'
    async with running(text(sys.executable, str(APPS / "late.py"), "0", backends=1, more=quick)) as balancer:
        pid = (await balancer.backends("web"))[0]["pid"]
        os.kill(pid, signal.SIGSTOP)
        await balancer.line("web-0 unhealthy")
        os.kill(pid, signal.SIGCONT)
        await balancer.line("web-0 healthy")
        with trio.fail_after(balancer.patience):
            while (await balancer.get("/")).text != "web-0":
                pass  # a probe in so great a hurry may fail once more on a busy machine
