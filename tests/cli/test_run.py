"""The whole, as a user meets it: one command that serves, and the verbs beside it."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import trio

from balancer.admin.client import Client, NotRunning
from tests.support.apps import LISTEN, pool
from tests.support.running import environment, running, with_ports


async def test_a_start_says_where_everything_is() -> None:
    async with running(LISTEN + pool("web", 2)) as balancer:
        await balancer.line("balancer status --config cluster.toml")
        assert f"listening  {balancer.url}" in balancer.text
        assert re.search(r"pool  web  2 × .*\(weighted-round-robin\)", balancer.text)
        assert f"admin  {balancer.admin_url}" in balancer.text
        assert (await balancer.get("/")).status_code == 200
        assert "\x1b" not in balancer.text


async def test_the_verbs_beside_it() -> None:
    async with running(LISTEN + pool("web", 2)) as balancer:
        for _ in range(6):
            await balancer.get("/")
        status = await balancer.command("status")
        assert (status.returncode, status.stderr) == (0, "")
        rows = [line.split() for line in status.stdout.splitlines() if line.startswith("web-")]
        assert [row[:3] for row in rows] == [["web-0", "ready", "1"], ["web-1", "ready", "1"]]
        assert sum(int(row[8]) for row in rows) == 6
        backends = json.loads((await balancer.command("status", "--json")).stdout)["pools"][0]["backends"]
        assert [str(b["pid"]) for b in backends] == [row[3] for row in rows]
        events = (await balancer.command("events")).stdout
        assert "web-1 (generation 1) ready" in events
        gone = await balancer.command("logs", "wep")
        assert (gone.returncode, gone.stderr) == (1, "there is no pool 'wep'\n")
        second = await balancer.command("run")
        assert (second.returncode, len(second.stderr.splitlines())) == (1, 1)
        assert "already running" in second.stderr
        assert (await balancer.get("/")).status_code == 200
        stop = await balancer.command("stop")
        assert (stop.returncode, stop.stdout) == (0, "stopped\n")
        assert await balancer.wait(1) == 0
        assert (await balancer.command("status")).returncode == 1


async def test_everything_on_the_console_is_json_when_that_is_asked_for() -> None:
    text = LISTEN + pool("web", 1) + '\n[log]\nformat = "json"\naccess = "stderr"\naccess_format = "json"\n'
    async with running(text) as balancer:
        await balancer.get("/hello?a=1")
        await balancer.line("/hello?a=1")
        balancer.signal(signal.SIGTERM)
        await balancer.wait()
    lines = [json.loads(line) for line in balancer.lines]
    assert any(line.get("event") == "serving" for line in lines)
    (access,) = [line for line in lines if line.get("target") == "/hello?a=1"]
    assert (access["status"], access["pool"], access["backend"]) == (200, "web", "web-0")


async def test_the_metrics_of_a_running_balancer() -> None:
    async with running(LISTEN + pool("web", 1)) as balancer:
        for _ in range(3):
            await balancer.get("/")
        metrics = await balancer.metrics()
        assert 'balancer_requests_total{backend="web-0",code="200",method="GET",pool="web"} 3.0' in metrics
        for name in ("supervisor", "proxy-0"):
            assert re.search(rf'balancer_process_resident_memory_bytes{{process="{name}"}} [1-9]', metrics)
        memory = re.search(r'balancer_backend_memory_bytes{backend="web-0",pool="web"} ([0-9.e+]+)', metrics)
        assert memory is not None
        assert float(memory[1]) > 1e6


IN_A_TERMINAL = """
import os, pty, sys
status = pty.spawn([sys.executable, "-m", "balancer", *sys.argv[1:]])
sys.exit(os.waitstatus_to_exitcode(status))
"""


async def test_a_terminal_gets_colours_unless_it_wants_none() -> None:
    async with running(LISTEN + pool("web", 1)) as balancer:
        for verb, no_colour, coloured in (
            ("status", "", True),
            ("logs", "", True),
            ("status", "1", False),
            ("logs", "1", False),
        ):
            balancer_says = await trio.run_process(
                [sys.executable, "-c", IN_A_TERMINAL, verb, "--config", str(balancer.config)],
                capture_stdout=True,
                stdin=b"",
                env={**environment(balancer.mark), "TERM": "xterm", "NO_COLOR": no_colour},
            )
            assert b"web-0" in balancer_says.stdout
            assert (b"\x1b[3" in balancer_says.stdout) == coloured, verb


async def test_an_interrupt_stops_it_with_success() -> None:
    async with running(LISTEN + pool("web", 1)) as balancer:
        balancer.signal(signal.SIGINT)
        assert await balancer.wait() == 0
        await balancer.line("stopped")


CHATTY = """
import sys
from http.server import HTTPServer, SimpleHTTPRequestHandler

sys.stdout.write(("x" * 100 + "\\n") * 10_000)
sys.stdout.flush()
HTTPServer(("127.0.0.1", int(sys.argv[1])), SimpleHTTPRequestHandler).serve_forever()
"""


def test_a_terminal_that_is_stopped_stops_nothing(tmp_path: Path) -> None:
    """Nobody reads its stderr, and a backend has more to say than the pipe holds."""
    (tmp_path / "chatty.py").write_text(CHATTY)
    config = tmp_path / "cluster.toml"
    command = json.dumps([sys.executable, str(tmp_path / "chatty.py"), "{port}"])
    config.write_text(with_ports(f"{LISTEN}[pool.web]\ncommand = {command}\n"))
    client = Client(config.with_suffix(".sock"), config, silence=5)
    command_line = [sys.executable, "-m", "balancer", "--config", str(config)]
    process = subprocess.Popen(command_line, stderr=subprocess.PIPE, env=environment("stalled"))
    try:
        deadline = time.monotonic() + 30
        while "serving" not in kinds(client) and time.monotonic() < deadline:
            time.sleep(0.02)  # another process's state: there is no event to wait for
        assert "serving" in kinds(client)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()


def kinds(client: Client) -> list[str]:
    """Of the events so far; none while nobody answers."""
    try:
        return [event["event"] for event in client.stream("GET", "/api/v1/events", last=100, follow=0)]
    except NotRunning:
        return []
