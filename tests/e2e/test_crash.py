"""A request that kills backends: it is named, it kills no second one, and those beside it are answered."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import httpx
import pytest
import trio

from tests.support.apps import LISTEN, pool
from tests.support.running import Balancer, running

# A backend that crashes is back at once.
QUICK = """
[pool.web.restart]
delay = "20ms"
max_delay = "50ms"
[pool.web.health]
interval = "100ms"
"""

UPGRADE = (
    b"GET /ws?token=secret HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


async def whole(balancer: Balancer) -> None:
    """Until every backend takes requests."""
    await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))


async def test_alone_it_kills_one_backend_and_is_named_at_once() -> None:
    async with running(LISTEN + pool("web", 3, more=QUICK)) as balancer:
        answer = await balancer.get("/exit?code=3")
        assert answer.status_code == 502
        line = await balancer.line("crashed")
        assert "GET /exit" in line
        assert 'how="exit code 3"' in line
        assert "casualties=1" in line
        await whole(balancer)
        status = await balancer.status()
        assert sum(b["restarts"] for b in status["pools"][0]["backends"]) == 1
        assert status["pools"][0]["suspects"] == [
            {"request": "GET /exit", "crashes": 1, "alone": 1, "acquitted": 0, "quarantined": False}
        ]


async def test_four_innocents_beside_it_are_answered_and_after_three_crashes_it_ranks_first() -> None:
    # Sticky, so that all five are on the same one.
    text = '[listen.web]\naddress = "127.0.0.1:0"\n\n[proxy]\nprocesses = 2\n\n' + pool("web", 3, more=QUICK)
    text = text.replace("backends = 3", 'backends = 3\nretries = 2\nsticky_cookie = "b"')
    async with running(text) as balancer:
        for number in range(3):
            gate = balancer.folder / f"go-{number}"
            await whole(balancer)
            balancer.client.cookies.clear()
            first = await balancer.get("/")
            cookies = dict(first.cookies)
            balancer.client.cookies.clear()
            target = first.json()["backend"]
            statuses: list[int] = []
            async with trio.open_nursery() as nursery:

                async def ask(
                    cookies: dict[str, str] = cookies, statuses: list[int] = statuses, gate: Path = gate
                ) -> None:
                    cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
                    answer = await balancer.get(f"/slow?until={gate}", headers={"Cookie": cookie})
                    statuses.append(answer.status_code)

                for _ in range(4):
                    nursery.start_soon(ask)
                await balancer.until(
                    lambda s, t=target: any(b["name"] == t and b["in_flight"] == 4 for b in s["pools"][0]["backends"])  # type: ignore[misc]
                )
                cookie = "; ".join(f"{name}={value}" for name, value in cookies.items())
                boom = await balancer.get("/exit", headers={"Cookie": cookie})
                assert boom.status_code == 502
                gate.touch()
            assert statuses == [200] * 4, balancer.text
        suspects = (await balancer.status())["pools"][0]["suspects"]
        assert suspects[0]["request"] == "GET /exit"
        assert suspects[0]["crashes"] >= 3
        assert all(suspect["request"] != "GET /slow" for suspect in suspects), "acquitted"
        # The first one had company, so it was tried once more; after that it never was again.
        assert len([line for line in balancer.lines if " crashed " in line]) <= 4


async def test_one_that_dies_in_the_middle_of_its_response_is_the_one_that_is_named() -> None:
    text = LISTEN + pool("web", 2, more=QUICK)
    async with running(text.replace("backends = 2", 'backends = 2\nsticky_cookie = "b"')) as balancer:
        cookies = dict((await balancer.get("/")).cookies)
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
        statuses: list[int] = []
        gate = balancer.folder / "go"
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                statuses.append((await balancer.get(f"/slow?until={gate}", headers=headers)).status_code)

            nursery.start_soon(ask)
            await balancer.until(lambda s: sum(b["in_flight"] for b in s["pools"][0]["backends"]) == 1)
            with pytest.raises(httpx.TransportError):
                await balancer.get("/chunks?n=2&ms=50&exit=1", headers=headers)
            gate.touch()
        assert statuses == [200]
        line = await balancer.line("crashed")
        assert "GET /chunks" in line
        assert "casualties=2" in line
        # The innocent one is acquitted a moment after it was answered.
        await balancer.until(lambda s: [x["request"] for x in s["pools"][0]["suspects"]] == ["GET /chunks"])


async def test_a_websocket_that_was_open_is_named_beside_it_and_not_accused() -> None:
    command = json.dumps([sys.executable, "-m", "balancer.demo", "--port", "{port}"])
    async with running(LISTEN + f"[pool.web]\ncommand = {command}\n{QUICK}") as balancer:
        async with await trio.open_tcp_stream("127.0.0.1", balancer.port) as client:
            await client.send_all(UPGRADE)
            assert (await client.receive_some(4096)).startswith(b"HTTP/1.1 101 ")
            await trio.sleep(1.1)  # no news any more
            assert (await balancer.get("/crash")).status_code == 502
        line = await balancer.line("crashed")
        assert re.search(r'requests="GET /crash [\d.]+s, GET /ws [\d.]+s upgraded"', line)
        assert 'suspects="GET /crash (1 crashes, 1 alone, 0 acquitted)"' in line


async def test_a_kill_from_outside_is_nobodys_fault_and_its_requests_are_answered() -> None:
    async with running(LISTEN + pool("web", 2, more=QUICK)) as balancer:
        answers: list[tuple[int, str]] = []
        gate = balancer.folder / "go"
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                answer = await balancer.get(f"/slow?until={gate}")
                answers.append((answer.status_code, answer.headers.get("proxy-status", "")))

            nursery.start_soon(ask)
            status = await balancer.until(lambda s: sum(b["in_flight"] for b in s["pools"][0]["backends"]) == 1)
            busy = next(b for b in status["pools"][0]["backends"] if b["in_flight"])
            os.kill(busy["pid"], signal.SIGKILL)
            line = await balancer.line("crashed")
            gate.touch()
        assert answers == [(200, "")], balancer.text
        assert "SIGKILL" in line
        assert "GET /slow" in line
        assert "suspects" not in line
        assert (await balancer.status())["pools"][0]["suspects"] == []


async def test_quarantine_spares_the_backends_and_ends() -> None:
    quarantine = '[pool.web.quarantine]\nafter = 2\ntime = "6s"\n'
    async with running(LISTEN + pool("web", 2, more=QUICK + quarantine)) as balancer:
        for _ in range(2):
            await whole(balancer)
            assert (await balancer.get("/exit")).status_code == 502
        await balancer.line("quarantined")
        refused = await first(balancer, 503)
        assert 'details="quarantined"' in refused.headers["proxy-status"]
        assert 1 <= int(refused.headers["retry-after"]) <= 6
        assert (await balancer.get("/")).status_code == 200
        assert (await balancer.status())["pools"][0]["suspects"][0]["quarantined"]
        assert 'reason="quarantined"' in await balancer.metrics()
        await balancer.line("quarantine over")
        await first(balancer, 502)


async def first(balancer: Balancer, status: int) -> httpx.Response:
    """The first answer to /exit with this status: a proxy applies what was decided a moment later."""
    with trio.fail_after(10):
        while True:
            answer = await balancer.get("/exit?other=query")
            if answer.status_code == status:
                return answer
            await whole(balancer)
