"""What is known of each backend's health is shown: its last probe and its last heartbeat, in the status and in the metrics."""

import json
import re
import sys
from typing import Any

from tests.support.apps import LISTEN
from tests.support.ports import free_port
from tests.support.running import ROOT, Balancer, running

# Beats every 20 ms until there is a file "mute"; says 503 while there is one "sick".
APP = """
import http.server, os, threading, time
from balancer import backend

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("sick") else 204)
        self.end_headers()
    def log_message(self, *_):
        pass

def beat():
    while not os.path.exists("mute"):
        backend.heartbeat()
        time.sleep(0.02)

threading.Thread(target=beat, daemon=True).start()
http.server.ThreadingHTTPServer((os.environ["HOST"], int(os.environ["PORT"])), Handler).serve_forever()
"""


async def gauge(balancer: Balancer, name: str, backend: str) -> float | None:
    """Of one backend, from the metrics; None when there is no such series."""
    found = re.search(rf'^balancer_backend_{name}{{backend="{backend}",[^}}]*}} (\S+)$', await balancer.metrics(), re.M)
    return float(found[1]) if found else None


def of(status: dict[str, Any], name: str) -> dict[str, Any]:
    """One backend of the status."""
    return next(b for pool in status["pools"] for b in pool["backends"] if b["name"] == name)


async def test_the_last_probe_and_heartbeat_of_each_backend() -> None:
    command, other = json.dumps([sys.executable, "-c", APP]), f"127.0.0.1:{free_port()}"
    text = f"""{LISTEN.rstrip()}
pool = "web"
[pool.web]
command = {command}
env = {{PYTHONPATH = "{ROOT}"}}
[pool.web.health]
path = "/healthz"
interval = "50ms"
[[route]]
path = "/plain"
pool = "plain"
[pool.plain]
command = "python -m http.server {{port}} --bind {{host}}"
health.interval = "50ms"
[[route]]
path = "/far"
pool = "far"
[pool.far]
health.interval = "50ms"
[[pool.far.group]]
address = "{other}"
"""
    async with running(text, ready=False) as balancer:
        await balancer.line("proxy ready")
        status = await balancer.until(
            lambda s: all((of(s, name)["probe"] or {}).get("result") == "pass" for name in ("web-0", "plain-0"))
        )
        probe = of(status, "web-0")["probe"]
        assert (probe["reason"], probe["status"]) == ("", 204)
        assert 0 <= probe["age_seconds"] < 10
        assert 0 < probe["duration_seconds"] < 10
        await balancer.until(lambda s: of(s, "web-0")["heartbeat_seconds"] < 0.3)
        # A TCP connect has no status, and http.server sends no heartbeats.
        assert (of(status, "plain-0")["probe"]["status"], of(status, "plain-0")["heartbeat_seconds"]) == (None, None)
        assert await gauge(balancer, "last_probe_success", "web-0") == 1
        assert 0 < (await gauge(balancer, "last_probe_duration_seconds", "web-0") or 0) < 10
        assert await gauge(balancer, "heartbeat_age_seconds", "plain-0") is None

        await balancer.until(lambda s: (of(s, "far-0")["probe"] or {}).get("reason") == "Connection refused")
        assert await gauge(balancer, "last_probe_success", "far-0") == 0

        (balancer.folder / "sick").touch()
        (balancer.folder / "mute").touch()
        status = await balancer.until(lambda s: of(s, "web-0")["probe"]["result"] == "fail")
        probe = of(status, "web-0")["probe"]
        assert (probe["reason"], probe["status"]) == ("status 503", 503)
        assert await gauge(balancer, "last_probe_success", "web-0") == 0
        assert re.search(r"\nweb-0: probe failed \d+s ago: status 503\n", (await balancer.command("status")).stdout)
        await balancer.until(lambda s: of(s, "web-0")["heartbeat_seconds"] > 0.3)
        assert (await gauge(balancer, "heartbeat_age_seconds", "web-0") or 0) > 0.3
        # Probes go on.
        await balancer.until(lambda s: of(s, "web-0")["probe"]["age_seconds"] < 0.3)


async def test_why_one_that_starts_is_not_ready_yet() -> None:
    text = LISTEN + '[pool.web]\ncommand = "sleep 60"\nstop.timeout = "1s"\n'
    async with running(text, ready=False) as balancer:
        await balancer.line("proxy ready")
        status = await balancer.until(lambda s: of(s, "web-0")["probe"] is not None)
        assert of(status, "web-0")["phase"] == "starting"
        assert of(status, "web-0")["probe"]["reason"] == "Connection refused"
