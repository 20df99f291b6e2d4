"""Rows of the balancer alone: from the command to the first answer, and reloads under load."""

import http.client
import os
import statistics
import subprocess
import sys
import time

import trio

from tests.benchmarks.process import PATIENCE
from tests.support.apps import LISTEN, pool
from tests.support.load import load
from tests.support.running import ROOT, running

DEMO = ROOT / "config" / "demo.toml"
DEMO_PORT = 8080


def start_up(repeat: int) -> list[str]:
    """Lines of the report: seconds from the command to the first proxied answer of the demo's four backends."""
    times = []
    for _ in range(repeat):
        started = time.monotonic()
        command = [sys.executable, "-m", "balancer", "--config", str(DEMO)]
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            first_answer(process, started + PATIENCE)
            times.append(time.monotonic() - started)
        finally:
            process.terminate()
            process.wait(PATIENCE)
    spread = f"{min(times):.2f} to {max(times):.2f} s over {repeat} starts"
    return ["## start-up: the command to the first proxied answer, config/demo.toml", "",
            f"median {statistics.median(times):.2f} s ({spread})", ""]  # fmt: skip


def first_answer(process: "subprocess.Popen[bytes]", deadline: float) -> None:
    """Ask until the answer is 200. Raises RuntimeError when it ends or the time is up."""
    while time.monotonic() < deadline and process.poll() is None:
        connection = http.client.HTTPConnection("127.0.0.1", DEMO_PORT, timeout=PATIENCE)
        try:
            connection.request("GET", "/healthz")
            if connection.getresponse().status == 200:
                return
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        time.sleep(0.002)  # another program's start: there is no event to wait for
    raise RuntimeError("config/demo.toml gave no answer")


def reloads(count: int) -> list[str]:
    """Lines of the report: what was lost over so many rolling reloads under steady load."""
    return trio.run(_reloads, count)


async def _reloads(count: int) -> list[str]:
    times = []
    async with running(LISTEN + pool("web", 4), patience=60) as balancer, load(balancer.port, rate=300) as traffic:
        await traffic.more(50)
        for _ in range(count):
            started = trio.current_time()
            done = await balancer.command("reload")
            times.append(trio.current_time() - started)
            if done.returncode:
                raise RuntimeError(f"balancer reload: {done.stderr}")
        await traffic.more(50)
    lost = "; ".join(f"{n} × {reason}" for reason, n in traffic.failures.most_common()) or "none"
    return [f"## {count} rolling reloads of four backends under 300 requests per second", "",
            f"requests: {traffic.done:,}; lost: {lost}; median {statistics.median(times):.2f} s per reload", ""]  # fmt: skip
