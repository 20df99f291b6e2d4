"""A real Node.js program on the channel: `process.send`, `process.on('message')` and `process.disconnect`, without a library of ours."""

import json
import re
from urllib.parse import quote

import pytest

from tests.support.apps import LISTEN
from tests.support.programs import find
from tests.support.running import ROOT, Balancer, running

pytestmark = pytest.mark.needs("node", why="the channel of Node.js backends")

HELLO = str(ROOT / "tests" / "apps" / "hello.js")
POOL = """[pool.web]
command = {command}
backends = 2
ready.when = "message"
stop = {{message = true, signal = "SIGWINCH", timeout = "5s"}}
"""


def pool() -> str:
    """Two backends that are ready when they say so, and end on "shutdown": the signal they get does nothing to them."""
    return LISTEN + POOL.format(command=json.dumps([str(find("node")), HELLO]))


async def tell(balancer: Balancer, message: object) -> str:
    """Let some backend send this; which."""
    return (await balancer.get(f"/tell?message={quote(json.dumps(message))}")).text


async def test_ready_messages_and_shutdown() -> None:
    async with running(pool()) as balancer:
        sender = await tell(balancer, {"type": "broadcast", "data": {"cache": "stale"}})
        other = {"web-0": "web-1", "web-1": "web-0"}[sender]
        heard: dict[str, object] = {"type": "broadcast", "from": sender, "data": {"cache": "stale"}}
        assert other in await balancer.line(f"heard {json.dumps(heard, separators=(',', ':'))}")
        sender = await tell(balancer, {"type": "send", "to": "web-0", "data": [1]})
        heard = {"type": "message", "from": sender, "data": [1]}
        assert "web-0" in await balancer.line(f"heard {json.dumps(heard, separators=(',', ':'))}")
        assert 'balancer_messages_total{backend="web-0"' in await balancer.metrics()
        asked = await balancer.command("send", "web", '{"do": [1, "ä"]}', "--wait")
        replies = [json.loads(line) for line in asked.stdout.splitlines()]
        assert asked.returncode == 0, asked
        assert {reply["backend"]: reply["data"] for reply in replies} == {
            b["name"]: {"heard": {"do": [1, "ä"]}, "from": b["pid"]} for b in await balancer.backends("web")
        }
    # `running` has stopped it: by the message alone, as the signal was one that they ignore.
    assert sum("shutting down" in line for line in balancer.lines) == 2
    assert sum("exited" in line and "exit code 0" in line for line in balancer.lines) == 2


async def test_a_line_of_2_mib_costs_nothing_but_itself() -> None:
    async with running(pool()) as balancer:
        await balancer.get(f"/shout?size={2 * 1024 * 1024}")
        await tell(balancer, {"type": "broadcast", "data": "after"})
        assert "after" in await balancer.line("heard")
        await balancer.get("/shout?size=500000")
        await tell(balancer, {"type": "send", "to": "web-1", "data": "and after"})
        assert "and after" in await balancer.line('"data":"and after"')
        counted = re.findall(
            r'balancer_messages_total{backend="web-(?:.)",direction="garbage",pool="web"} (\S+)',
            await balancer.metrics(),
        )
        assert sorted(float(number) for number in counted) == [0, 1]


async def test_a_closed_channel_means_drain_and_one_replacement() -> None:
    async with running(pool()) as balancer:
        left = (await balancer.get("/leave?ms=300")).text
        await balancer.line(f"{left} draining")
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        backends = await balancer.backends("web")
        assert sorted(b["generation"] for b in backends if b["name"] == left)[-1] == 2
        assert [b["generation"] for b in backends if b["name"] != left] == [1]
        assert {(await balancer.get("/")).text for _ in range(4)} == {"web-0", "web-1"}
        await balancer.line(f"{left} exited")
    assert sum(f"{left} started" in line for line in balancer.lines) == 2
