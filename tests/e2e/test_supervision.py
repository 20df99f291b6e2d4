"""Deaths and stops of a real balancer: what is killed comes back, what is asked to stop finishes first, nothing is left."""

import json
import os
import signal
import sys

import psutil
import pytest
import trio

from tests.support.apps import APP, LISTEN, pool
from tests.support.asking import Reply, ask
from tests.support.load import CLIENTS, load
from tests.support.running import running

QUICK = """
[pool.web.health]
interval = "100ms"
[pool.web.stop]
timeout = "1s"
"""


async def test_a_killed_backend_is_replaced_under_load() -> None:
    async with running(LISTEN + pool("web", 2, more=QUICK)) as balancer, load(balancer.port, rate=300) as traffic:
        await traffic.more(50)
        first = (await balancer.backends("web"))[0]
        os.kill(first["pid"], signal.SIGKILL)
        await balancer.until(lambda s: s["pools"][0]["backends"][0]["generation"] == 2)
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        await traffic.more(50)
        # Only what was on it at that moment and may not be sent twice: of each client one request.
        assert traffic.failures.total() <= CLIENTS, (traffic.failures, balancer.text)
        metrics = await balancer.metrics()
        assert 'balancer_backend_restarts_total{backend="web-0",pool="web",reason="crash"} 1.0' in metrics


async def test_a_killed_proxy_is_replaced_and_its_queue_served() -> None:
    async with running(LISTEN + pool("web", 1, more=QUICK)) as balancer:
        before = (await balancer.status())["proxies"][0]["pid"]
        os.kill(before, signal.SIGKILL)
        # Its listening socket stays open: this connection waits for the successor.
        assert (await balancer.get("/")).status_code == 200
        after = (await balancer.status())["proxies"][0]["pid"]
        assert after != before
        metrics = await balancer.metrics()
        assert 'code="200"' in metrics


async def test_sigterm_finishes_the_request_that_runs() -> None:
    async with running(LISTEN + pool("web", 1, more=QUICK)) as balancer:
        async with trio.open_nursery() as nursery:
            got: list[int] = []
            gate = balancer.folder / "go"

            async def ask() -> None:
                got.append((await balancer.get(f"/slow?until={gate}")).status_code)

            nursery.start_soon(ask)
            await balancer.until(lambda s: s["pools"][0]["backends"][0]["in_flight"] == 1)
            balancer.signal(signal.SIGTERM)
            await balancer.line("stopping")
            gate.touch()
        assert got == [200]
        assert await balancer.wait() == 0


async def test_a_second_sigterm_and_sigquit_stop_at_once() -> None:
    stubborn = pool("web", 2, "--ignore-term", more='[pool.web.stop]\ntimeout = "60s"\n')
    for first, second in ((signal.SIGTERM, signal.SIGINT), (signal.SIGQUIT, None)):
        async with running(LISTEN + stubborn) as balancer:
            balancer.signal(first)
            if second is not None:
                await balancer.line("stopping")
                balancer.signal(second)
            assert await balancer.wait() == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGQUIT])
async def test_who_is_cut_by_a_stop_at_once_is_told_that_it_was_the_stop(first: signal.Signals) -> None:
    text = LISTEN + "[proxy]\nprocesses = 2\n\n" + pool("web", 2, more="concurrency = 2" + QUICK)
    async with running(text + '[log]\naccess = "stderr"\naccess_format = "json"\n') as balancer:
        replies: list[Reply] = []

        async def get() -> None:
            replies.append(await ask(balancer.port, "/slow?ms=9000"))

        async with trio.open_nursery() as nursery:
            for _ in range(10):
                nursery.start_soon(get)
            await balancer.until(lambda s: sum(b["in_flight"] for b in s["pools"][0]["backends"]) == 4)
            with trio.fail_after(balancer.patience):
                while 'balancer_queue_length{pool="web"} 6.0' not in await balancer.metrics():  # noqa: ASYNC110
                    await trio.sleep(0.02)  # another process's numbers: there is no event to wait for
            balancer.signal(first)
            if first is signal.SIGTERM:
                await balancer.line("stopping")
                balancer.signal(first)
        assert await balancer.wait() == 0
        assert [reply.status for reply in replies] == [503] * 10
        assert {reply.one("proxy-status") for reply in replies} == {
            'balancer; error=destination_unavailable; details="stopping"'
        }
        logged = [json.loads(line) for line in balancer.lines if line.startswith("{")]
        assert [line["reason"] for line in logged if "status" in line] == ["stopping"] * 10


async def test_a_killed_supervisor_leaves_no_orphans() -> None:
    async with running(LISTEN + pool("web", 2, "--ignore-term"), exit_code=None) as balancer:
        children = balancer.processes()
        assert len(children) >= 3
        balancer.signal(signal.SIGKILL)
        await balancer.wait()
        with trio.fail_after(balancer.patience):
            while [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:  # noqa: ASYNC110
                await trio.sleep(0.01)  # processes of another parent: there is no event to wait for


async def test_what_backends_started_in_turn_is_no_orphan_either() -> None:
    shell = json.dumps(["sh", "-c", f"{sys.executable} {APP} --host {{host}} --port {{port}}; true"])
    async with running(LISTEN + f"[pool.web]\ncommand = {shell}\nbackends = 2\n", exit_code=None) as balancer:
        children = balancer.processes()
        assert len([p for p in children if APP.name in " ".join(p.cmdline())]) == 4
        balancer.signal(signal.SIGKILL)
        await balancer.wait()
        with trio.fail_after(balancer.patience):
            while [p for p in children if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]:  # noqa: ASYNC110
                await trio.sleep(0.01)  # processes of another parent: there is no event to wait for


async def test_a_busy_port_is_one_clear_line_and_code_1() -> None:
    text = LISTEN + pool("web", 1)
    async with running(text) as balancer:
        busy = balancer.addresses["web"]
        other = f'[listen.web]\naddress = "{busy}"\n\n' + pool("web", 1)
        async with running(other, ready=False, exit_code=1) as second:
            assert await second.wait() == 1
            assert second.text == f"balancer: listen.web: cannot listen on {busy}: the address is already in use"
        assert (await balancer.get("/")).status_code == 200


async def test_signals_that_do_nothing_yet_do_no_harm() -> None:
    async with running(LISTEN + pool("web", 1)) as balancer:
        for number in (signal.SIGTTIN, signal.SIGUSR2, signal.SIGUSR1):
            balancer.signal(number)
        await balancer.line("SIGUSR2 is not available in this version")
        await balancer.line("log files reopened")
        assert (await balancer.get("/")).status_code == 200


async def test_a_stop_while_starting_does_not_wait_for_the_start() -> None:
    async with running(LISTEN + pool("web", 2, "--boot-delay", "60"), ready=False) as balancer:
        await balancer.line("web-1 started")
        balancer.signal(signal.SIGTERM)
        assert await balancer.wait() == 0


async def test_the_status_says_all_that_it_promises() -> None:
    async with running(LISTEN + pool("web", 1)) as balancer:
        assert (await balancer.get("/")).status_code == 200
        # It is counted once its end is told, which the client may know first.
        status = await balancer.until(lambda s: s["pools"][0]["backends"][0]["requests_total"] == 1)
        assert {"version", "uptime_seconds", "config", "listeners", "proxies", "pools"} <= status.keys()
        assert status["config"] == str(balancer.config)
        assert status["listeners"] == [{"name": "web", "address": balancer.addresses["web"]}]
        assert {"pid", "connections"} <= status["proxies"][0].keys()
        backend = status["pools"][0]["backends"][0]
        promised = {
            "name",
            "pool",
            "address",
            "pid",
            "generation",
            "phase",
            "health",
            "intent",
            "takes_requests",
            "weight",
        }
        promised |= {"in_flight", "requests_total", "restarts", "uptime_seconds", "memory_bytes", "cpu_percent"}
        assert promised <= backend.keys()
        shown = {key: backend[key] for key in ("name", "phase", "health", "intent", "takes_requests", "requests_total")}
        assert shown == {
            "name": "web-0",
            "phase": "running",
            "health": "healthy",
            "intent": "serve",
            "takes_requests": True,
            "requests_total": 1,
        }
        assert backend["memory_bytes"] > 1_000_000
        assert psutil.Process(backend["pid"]).ppid() == balancer.pid


async def test_a_crash_loop_neither_hides_nor_spreads() -> None:
    text = LISTEN + pool("web", 1) + pool("bad", 1, "--exit-at-boot", "9", more="[pool.bad.restart]\nmax_crashes = 3\n")
    text += '[[route]]\npath = "/bad"\npool = "bad"\n[[route]]\npath = "/"\npool = "web"\n'
    async with running(text, ready=False) as balancer:
        await balancer.line("bad-0 hold")
        assert (await balancer.get("/")).status_code == 200
        ready = await balancer.client.get(balancer.admin_url + "/readyz")
        assert ready.status_code == 503
        assert "pool bad: no backend takes requests: bad-0 is hold" in ready.text
        answer = await balancer.get("/bad")
        assert answer.status_code == 503
        metrics = await balancer.metrics()
        assert 'balancer_backend_state{backend="bad-0",phase="hold",pool="bad"} 1.0' in metrics
