"""A balancer under a service manager: it says when it is ready, reloads and stops; and several proxies are one."""

import os
import signal
import socket
from pathlib import Path

import pytest
import trio

from tests.support.apps import LISTEN, app, pool
from tests.support.load import CLIENTS, load
from tests.support.running import running

TWO_PROXIES = "[proxy]\nprocesses = 2\n"


async def test_sd_notify(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as plain:
        plain.bind(f"\0balancer-test-{os.getpid()}")
        plain.setblocking(False)
        manager = trio.socket.from_stdlib_socket(plain)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@balancer-test-{os.getpid()}")
        heard: list[str] = []

        async def hear(assignment: str) -> None:
            with trio.fail_after(20):
                while assignment not in heard:
                    heard.extend((await manager.recv(4096)).decode().splitlines())

        async with running(LISTEN + pool("web", 1)) as balancer:
            await hear("READY=1")
            # A backend has a socket of its own: what it says is not for the service manager.
            assert (await balancer.get("/env?name=NOTIFY_SOCKET")).text.startswith("@balancer/")
            heard.clear()
            balancer.signal(signal.SIGHUP)
            await hear("RELOADING=1")
            assert any(line.startswith("MONOTONIC_USEC=") for line in heard)
            await hear("READY=1")
            balancer.signal(signal.SIGTERM)
            await hear("STOPPING=1")


async def test_two_proxies_reload_and_die_under_load() -> None:
    text = LISTEN + TWO_PROXIES + pool("web", 2, more='[pool.web.health]\ninterval = "100ms"\n')
    async with running(text) as balancer:
        async with load(balancer.port, rate=300) as traffic:
            await traffic.more(50)
            for _ in range(3):
                done = await balancer.command("reload")
                assert done.returncode == 0, done
            await traffic.more(50)
            assert not traffic.failures, (traffic.failures, balancer.text)
            answered = traffic.answers.total()
        async with load(balancer.port, rate=100) as traffic:
            pids = [proxy["pid"] for proxy in (await balancer.status())["proxies"]]
            assert len(pids) == 2
            os.kill(pids[0], signal.SIGKILL)
            await balancer.until(lambda s: len(s["proxies"]) == 2 and all(p["ready"] for p in s["proxies"]))
            await traffic.more(50)
            # The connections that it had, and no new ones: those wait in the queue of its socket.
            assert traffic.failures.total() <= CLIENTS, traffic.failures
            answered += traffic.answers.total()
        # What the old processes of backends and proxies counted is not lost.
        await balancer.until(lambda s: sum(b["requests_total"] for b in s["pools"][0]["backends"]) >= answered)


async def test_a_request_waits_while_the_only_backend_comes_back() -> None:
    more = '[pool.web.restart]\ndelay = "50ms"\n'
    async with running(
        LISTEN + f"[pool.web]\ncommand = {app('--boot-delay', '0.3')}\nbackends = 1\n{more}"
    ) as balancer:
        os.kill((await balancer.backends("web"))[0]["pid"], signal.SIGKILL)
        await balancer.line("crashed")
        answer = await balancer.get("/")
        assert (answer.status_code, answer.json()["generation"]) == (200, "2")
