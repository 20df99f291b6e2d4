"""Backends that traffic shows to be in trouble go for a while: longer each time, never too many, and visibly."""

import json
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from tests.support.asking import ask
from tests.support.running import Balancer, running

# Answers what the file beside it that is called like its slot says ("503 1": every request; "500 2": every second one), else 200.
MOODY = """
import http.server, os, pathlib, sys

name = os.environ["BALANCER_BACKEND"]
mood = pathlib.Path(__file__).with_name(name)

class Moody(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    count = 0

    def do_GET(self):
        status, every = mood.read_text().split() if mood.exists() else ("200", "1")
        Moody.count += 1
        body = name.encode()
        self.send_response(int(status) if Moody.count % int(every) == 0 else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass

http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Moody).serve_forever()
"""


class Scene:
    """A folder with the moody app and its moods."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "moody.py").write_text(MOODY)

    def text(self, backends: int, eject: str) -> str:
        command = json.dumps([sys.executable, str(self.folder / "moody.py"), "{port}"])
        return (
            '[listen.web]\naddress = "127.0.0.1:0"\n[proxy]\nprocesses = 1\n'
            f"[pool.web]\ncommand = {command}\nbackends = {backends}\nretries = 0\n[pool.web.eject]\n{eject}\n"
        )

    def mood(self, backend: str, answers: str) -> None:
        """answers: "503 1" for every request, "500 2" for every second one; "" for all well."""
        # Whole or not at all: the app reads it whenever it is asked.
        fresh = self.folder / "fresh"
        fresh.write_text(answers or "200 1")
        fresh.replace(self.folder / backend)


async def health(balancer: Balancer) -> dict[str, str]:
    return {backend["name"]: backend["health"] for backend in await balancer.backends("web")}


@asynccontextmanager
async def asking(balancer: Balancer) -> AsyncIterator[None]:
    """Send requests, one after another, for as long as the block runs."""
    async with trio.open_nursery() as nursery:

        async def keep_asking() -> None:
            while True:
                await ask(balancer.port)

        nursery.start_soon(keep_asking)
        yield
        nursery.cancel_scope.cancel()


async def ask_until(balancer: Balancer, word: str) -> None:
    """Send requests until the log says it."""
    async with asking(balancer):
        await balancer.line(word)


async def answered_by(balancer: Balancer, names: set[bytes]) -> None:
    """Until six in a row are answered by these and by all of these: a proxy applies what was decided a moment later."""
    with trio.fail_after(balancer.patience):
        while {(await ask(balancer.port)).body for _ in range(6)} != names:
            pass


async def test_failures_in_a_row_eject_longer_each_time_and_are_seen_everywhere(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with running(scene.text(2, 'failures = 3\ntime = "400ms"')) as balancer:
        scene.mood("web-0", "503 1")
        async with asking(balancer):
            first = await balancer.line("web-0 ejected")
            assert "seconds=0.4" in first
            status = await balancer.until(lambda s: s["pools"][0]["backends"][0]["health"] == "ejected")
            ejected, other = status["pools"][0]["backends"]
            assert (ejected["takes_requests"], other["health"]) == (False, "healthy")
            # Let back, it fails again: twice as long.
            await balancer.line("seconds=0.8")
        counted = re.search(
            r'balancer_backend_ejections_total{backend="web-0",pool="web"} (\S+)', await balancer.metrics()
        )
        assert counted is not None
        assert float(counted[1]) >= 2
        scene.mood("web-0", "")
        await balancer.until(lambda s: s["pools"][0]["backends"][0]["takes_requests"])
        await answered_by(balancer, {b"web-0", b"web-1"})
        assert "let back" in balancer.text


async def test_never_more_than_the_share_that_may_go(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    async with running(scene.text(3, 'failures = 2\ntime = "60s"\nmax = "50%"')) as balancer:
        for backend in ("web-0", "web-1", "web-2"):
            scene.mood(backend, "503 1")
        await ask_until(balancer, "not ejected")
        assert sorted((await health(balancer)).values()) == ["ejected", "healthy", "healthy"]


async def test_too_few_left_and_all_are_used(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    eject = 'failures = 2\ntime = "60s"\nmax = "100%"\npanic = "50%"'
    async with running(scene.text(3, eject)) as balancer:
        for backend in ("web-0", "web-1"):
            scene.mood(backend, "503 1")
            await ask_until(balancer, f"{backend} ejected")
        # One of three is fewer than half of them.
        assert await health(balancer) == {"web-0": "ejected", "web-1": "ejected", "web-2": "healthy"}
        await answered_by(balancer, {b"web-0", b"web-1", b"web-2"})


async def test_a_success_rate_behind_the_others_ejects(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    # 500 is an application's word: in a row it ejects nobody, but far more of them than at the others do.
    eject = 'failures = 2\nsuccess_margin = "20%"\ntime = "60s"'
    async with running(scene.text(3, eject)) as balancer:
        scene.mood("web-1", "500 2")
        await ask_until(balancer, "web-1 ejected")
        line = await balancer.line("web-1 ejected")
        assert "of its requests succeed, 100% of the others'" in line
        assert await health(balancer) == {"web-0": "healthy", "web-1": "ejected", "web-2": "healthy"}
        await answered_by(balancer, {b"web-0", b"web-2"})
