"""A browser in front: the page, the WebSocket and the event stream of the demo app, through the balancer."""

import sys
from pathlib import Path

import pytest
import trio

from tests.support import apps
from tests.support.browser import watch
from tests.support.running import running

POOL = f"""
[pool.demo]
command = "{sys.executable} -m balancer.demo --host {{host}} --port {{port}}"
backends = 2
"""

# Asked again and again until it gives something: the first time it begins.
TALK = """
(() => {
  if (!window.heard) {
    window.heard = [];
    const socket = new WebSocket(location.origin.replace("http", "ws") + "/ws");
    socket.onopen = () => { socket.send("hello"); socket.send("x".repeat(70000)); };
    socket.onmessage = m => { window.heard.push(String(m.data).length); if (window.heard.length === 2) socket.close(1000); };
    socket.onclose = c => window.heard.push("closed " + c.code);
  }
  return window.heard.length === 3 ? window.heard.join(" ") : "";
})()
"""
STREAM = """
(() => {
  if (!window.events) {
    window.events = 0;
    const source = new EventSource("/events");
    source.onmessage = () => { window.events += 1; };
  }
  return window.events >= 2 ? "events" : "";
})()
"""


@pytest.mark.needs("chromium", why="WebSockets and event streams of a browser")
@pytest.mark.parametrize(("expression", "expected"), [(TALK, "5 70000 closed 1000"), (STREAM, "events")])
async def test_a_browser_talks_to_the_app_behind(tmp_path: Path, expression: str, expected: str) -> None:
    async with running(apps.LISTEN + POOL) as balancer:
        text, said = await trio.to_thread.run_sync(watch, balancer.url + "/", tmp_path, expression)
    assert text == expected
    assert not [line for line in said if "favicon" not in line]
