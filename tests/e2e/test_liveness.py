"""Hung, slow, or only starting, with real traffic: only the first is killed, and what it had in hand is answered elsewhere."""

import json
import os
import signal
import sys

import trio

from tests.supervisor.test_liveness import LOOP
from tests.support.apps import LISTEN
from tests.support.running import Balancer, running

# As LOOP, but /stream?S sends a chunk, stands still for S seconds, and sends the rest.
STREAM = LOOP.replace(
    '        c.sendall(b"HTTP/1.1 200 OK',
    """        if line and line[0].startswith(b"/stream?"):
            c.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n2\\r\\nab\\r\\n")
            stuck_in_a_handler(float(line[0][8:]))
            c.sendall(b"2\\r\\ncd\\r\\n0\\r\\n\\r\\n")
            c.close()
            continue
        if line and line[0].startswith(b"/trickle?"):
            c.sendall(b"HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n")
            for _ in range(int(line[0][9:])):
                time.sleep(0.1)
                c.sendall(b"1\\r\\nx\\r\\n")
            c.sendall(b"0\\r\\n\\r\\n")
            c.close()
            continue
        c.sendall(b"HTTP/1.1 200 OK""",
)


def config(heartbeat: str, more: str = "", before: str = "") -> str:
    command = json.dumps([sys.executable, "-c", before + STREAM])
    return f"""{LISTEN}[pool.web]
command = {command}
backends = 2
[pool.web.ready]
when = "message"
timeout = "10s"
[pool.web.health]
path = "/"
interval = "100ms"
timeout = "300ms"
fall = 2
rise = 1
heartbeat = "{heartbeat}"
{more}
[pool.web.restart]
delay = "20ms"
"""


async def generations(balancer: Balancer) -> list[int]:
    return [backend["generation"] for backend in await balancer.backends("web")]


async def test_a_stopped_process_is_replaced_and_its_requests_are_answered_by_another() -> None:
    async with running(config("2s")) as balancer:
        first = (await balancer.backends("web"))[0]
        os.kill(first["pid"], signal.SIGSTOP)
        answers: list[int] = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                answers.append((await balancer.get("/")).status_code)

            for _ in range(2):
                nursery.start_soon(ask)
        assert answers == [200] * 2, "one of them was on the stopped one, alone"
        hung = await balancer.line("hung")
        assert "stopped=" in hung
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert sorted(await generations(balancer)) == [1, 2]
        assert (
            'balancer_backend_restarts_total{backend="web-0",pool="web",reason="heartbeat"} 1.0'
            in await balancer.metrics()
        )


async def test_a_stream_that_stands_still_and_resumes_is_not_killed_but_skipped() -> None:
    async with running(config("8s")) as balancer:
        bodies: list[str] = []
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                bodies.append((await balancer.get("/stream?4")).text)

            nursery.start_soon(ask)
            status = await balancer.until(lambda s: any(b["health"] == "unhealthy" for b in s["pools"][0]["backends"]))
            slow = next(b["name"] for b in status["pools"][0]["backends"] if b["health"] == "unhealthy")
            before = {b["name"]: b["requests_total"] for b in status["pools"][0]["backends"]}
            for _ in range(6):
                assert (await balancer.get("/")).status_code == 200
            after = {b["name"]: b["requests_total"] for b in await balancer.backends("web")}
            assert after[slow] == before[slow]
        assert bodies == ["abcd"]
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert await generations(balancer) == [1, 1]
        assert " hung " not in balancer.text


async def test_one_that_is_busy_with_a_stream_that_moves_is_not_killed() -> None:
    async with running(config("1500ms")) as balancer:
        assert all(0 <= backend["heartbeat_seconds"] < 1.5 for backend in await balancer.backends("web"))
        answer = await balancer.get("/trickle?25")
        assert answer.text == "x" * 25
        assert "unhealthy" in balancer.text, "it sent no heartbeat and answered no probe meanwhile"
        assert " hung " not in balancer.text
        assert await generations(balancer) == [1, 1]


async def test_a_busy_start_is_not_a_hang() -> None:
    busy = "import time\nend = time.monotonic() + 2\nwhile time.monotonic() < end: pass\n"
    async with running(config("1s", before=busy)) as balancer:
        assert await generations(balancer) == [1, 1]
        assert " hung " not in balancer.text


async def test_without_heartbeats_it_is_killed_only_when_that_is_asked_for_and_its_note_says_why() -> None:
    more = 'hang_timeout = "1s"\ndump_signal = "SIGUSR1"\n'
    async with running(config("0s", more)) as balancer:
        async with trio.open_nursery() as nursery:
            answers: list[int] = []

            async def ask() -> None:
                answers.append((await balancer.get("/block?60", headers={"X-Request-ID": "mine"})).status_code)

            nursery.start_soon(ask)
            hung = await balancer.line("hung")
        assert answers == [502], "it hung on that request alone: nobody else gets it"
        assert "GET /block" in hung
        note = await trio.Path(hung.partition("note=")[2].split()[0]).read_text()
        assert note.index("requests in flight: 1") < note.index("GET /block")
        assert "stuck_in_a_handler" in note
        assert str(balancer.folder) in hung
        assert "suspects" in await balancer.line("crashed")
