"""A real Prometheus over a recorded balancer whose counters grow with each scrape."""

import json
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlencode

from balancer.telemetry.exposition import render
from tests.support.ports import free_port
from tests.telemetry.scene import scene

PATIENCE = 40.0
CONFIG = """\
global:
  scrape_interval: 500ms
  scrape_timeout: 500ms
  evaluation_interval: 500ms
rule_files: [{rules}]
scrape_configs:
  - job_name: balancer
    static_configs: [{{targets: ["127.0.0.1:{port}"]}}]
"""


class Prometheus:
    """Its HTTP API."""

    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}"

    def ask(self, path: str, **query: str) -> Any:
        """The data of an answer; AssertionError with Prometheus's words when it is an error."""
        with urllib.request.urlopen(f"{self._url}{path}?{urlencode(query)}", timeout=PATIENCE) as answer:
            value = json.load(answer)
        assert value["status"] == "success", value
        return value["data"]

    def query(self, expression: str) -> list[Any]:
        """An instant query."""
        found: list[Any] = self.ask("/api/v1/query", query=expression)["result"]
        return found

    def until(self, holds: Callable[[], bool]) -> None:
        """Wait for it; AssertionError when it never holds. Another process's state: there is no event to wait for."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            try:
                if holds():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        raise AssertionError("Prometheus did not get there in time")


@contextmanager
def prometheus(program: str, rules: Path, folder: Path) -> Iterator[Prometheus]:
    """Scraping, with these rules loaded, until the block is left."""
    rounds = count(1)

    class Exposition(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content_type, body = render(*scene(next(rounds)), "openmetrics" in self.headers.get("Accept", ""))
            self.send_response(200)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Exposition)
    Thread(target=server.serve_forever, daemon=True).start()
    config = folder / "prometheus.yml"
    config.write_text(CONFIG.format(rules=rules, port=server.server_port))
    port = free_port()
    options = [
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen([program, *options], stdout=log, stderr=log)
    try:
        found = Prometheus(port)
        found.until(lambda: bool(found.query("balancer_build_info")))
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)
        server.shutdown()
        server.server_close()
