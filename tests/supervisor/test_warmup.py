"""Requests of ours that a process must answer before clients' requests may come."""

import json
import sys
from dataclasses import replace
from pathlib import Path

from balancer.supervisor.spec import Launch
from tests.supervisor.ground import QUICK, ground

COLD = """
import http.server, sys

class Cold(http.server.BaseHTTPRequestHandler):
    asked = []

    def do_GET(self):
        self.asked.append(self.path)
        # The second path is answered once it has been asked for twice.
        status = 503 if self.path == "/b" and self.asked.count("/b") < 2 else 404 if self.path == "/nothing" else 200
        print(self.path, status, flush=True)
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Cold).serve_forever()
"""


def cold(folder: Path) -> Launch:
    """An app that is not warm yet."""
    (folder / "cold.py").write_text(COLD)
    return Launch(group="", command=(sys.executable, "cold.py", "{port}"), cwd=str(folder))


async def test_each_is_asked_for_in_turn_until_it_succeeds(tmp_path: Path) -> None:
    care = replace(QUICK, warmup=("/a", "/b", "/c?d=e"))
    async with ground() as g:
        slot = g.add(cold(tmp_path), care)
        await g.event("ready")
        asked = [line.text for line in g.lines]
        assert asked == ["/a 200", "/b 503", "/b 200", "/c?d=e 200"], json.dumps(asked)
        assert slot.current is not None
        assert slot.current.backend.takes_requests


async def test_one_that_never_succeeds_is_a_start_that_failed(tmp_path: Path) -> None:
    care = replace(QUICK, warmup=("/nothing",), ready_timeout=0.7)
    async with ground() as g:
        slot = g.add(cold(tmp_path), care)
        failed = await g.event("start failed")
        assert failed.detail["reason"] == "was not ready within 0.7 s (warm-up /nothing: status 404)"
        assert not g.kinds("ready")
        assert slot.current is None or not slot.current.backend.takes_requests
