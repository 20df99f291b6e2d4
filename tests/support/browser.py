"""A real browser for tests: Debian's Chromium without a screen, spoken to over its DevTools protocol."""

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

PATIENCE = 40.0  # seconds for a browser to start, and for a page to show what is expected
_OPTIONS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--remote-debugging-port=0"),
]


def watch(url: str, profile: Path, expression: str) -> tuple[str, list[str]]:
    """Open a page and wait until a JavaScript expression gives a non-empty string; (it, what the console said meanwhile).

    profile: an empty folder. Blocks: to be run in a thread. Raises TimeoutError.
    """
    command = ["chromium", *_OPTIONS, f"--user-data-dir={profile}", "about:blank"]
    browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with connect(_page(profile), max_size=None) as socket:
            return _watch(socket, url, expression)
    finally:
        browser.kill()
        browser.wait()


def _watch(socket: Any, url: str, expression: str) -> tuple[str, list[str]]:
    said: list[str] = []
    numbers = iter(range(1, 1_000_000))

    def ask(method: str, **params: Any) -> Any:
        number = next(numbers)
        socket.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(socket.recv(timeout=PATIENCE))
            if message.get("method") in ("Runtime.exceptionThrown", "Log.entryAdded"):
                said.append(json.dumps(message["params"]))
            if message.get("id") == number:
                return message.get("result", {})

    for method in ("Runtime.enable", "Log.enable", "Page.enable"):
        ask(method)
    ask("Page.navigate", url=url)
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = ask("Runtime.evaluate", expression=expression)["result"].get("value")
        if value:
            return str(value), said
        # The page has no event for "shows what the test wants".
        time.sleep(0.1)
    raise TimeoutError(f"the page never gave {expression}; its console: {said}")


def _page(profile: Path) -> str:
    """The address of the only page's debugger."""
    port_file = profile / "DevToolsActivePort"
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            port = int(port_file.read_text().split("\n", 1)[0])
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/json", timeout=PATIENCE) as answer:
                pages = [page for page in json.load(answer) if page["type"] == "page"]
            if pages:
                return str(pages[0]["webSocketDebuggerUrl"])
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    raise TimeoutError("Chromium did not start")
