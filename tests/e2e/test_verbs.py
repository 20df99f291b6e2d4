"""The verbs against a real balancer under load: each waits for what it asked for, and what it says is so."""

import json
import os
import re
import shlex
import signal
import sys
from collections import Counter
from pathlib import Path

import trio

from balancer.settings.cpus import usable_cpus
from tests.support.apps import LISTEN, app, pool
from tests.support.load import load
from tests.support.running import ROOT, Balancer, running

QUICK = """
[pool.web.health]
interval = "100ms"
[pool.web.stop]
drain_timeout = "5s"
timeout = "3s"
"""
TALKER = str(ROOT / "tests" / "supervisor" / "talker.py")


async def answering(balancer: Balancer, count: int) -> Counter[str]:
    """Who answers so many requests, one after another."""
    return Counter([(await balancer.get("/")).json()["backend"] for _ in range(count)])


async def done(balancer: Balancer, *arguments: str) -> str:
    """What a verb says that comes about."""
    result = await balancer.command(*arguments)
    assert result.returncode == 0, (result, balancer.text)
    assert not result.stderr
    return result.stdout


async def failed(balancer: Balancer, *arguments: str, code: int = 1) -> str:
    """What a verb says that does not."""
    result = await balancer.command(*arguments)
    assert result.returncode == code, result
    assert result.stderr.count("\n") == 1
    return result.stderr


def generations(status: dict[str, list[dict[str, list[dict[str, int]]]]]) -> list[int]:
    return [backend["generation"] for backend in status["pools"][0]["backends"]]


async def test_restart_and_scale_lose_no_request() -> None:
    text = LISTEN + pool("web", 2, "--delay", "0.01", more=QUICK)
    async with running(text) as balancer, load(balancer.port, rate=150) as traffic:
        await traffic.more(20)
        said = await done(balancer, "restart", "web")
        assert said.endswith("pool web restarted: 2 backends replaced\n")
        assert generations(await balancer.status()) == [2, 2]
        assert (await done(balancer, "restart", "web/1")).endswith("web-1 restarted\n")
        assert generations(await balancer.status()) == [2, 3]
        assert (await done(balancer, "scale", "web", "4")).endswith("pool web has 4 backends\n")
        assert all(backend["takes_requests"] for backend in await balancer.backends("web"))
        assert generations(await balancer.status()) == [2, 3, 1, 1]
        await traffic.more(40)
        assert (await done(balancer, "scale", "web", "1")).endswith("pool web has 1 backend\n")
        assert generations(await balancer.status()) == [2]
        for count in (2, 3):
            balancer.signal(signal.SIGTTIN)
            await balancer.until(lambda s, count=count: len(generations(s)) == count)  # type: ignore[misc]
        balancer.signal(signal.SIGTTOU)
        await balancer.until(lambda s: len(generations(s)) == 2)
        assert f"pool web has {usable_cpus()} backend" in await done(balancer, "scale", "web", "max")
        # The file says two, and the same two go on counting.
        await done(balancer, "scale", "web", "3")
        await done(balancer, "reload")
        assert [b["name"] for b in await balancer.backends("web")] == ["web-0", "web-1"]
        assert not traffic.failures, (traffic.failures, balancer.text)


async def test_what_does_not_come_about_exits_with_1(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    script = f"test -e {broken} && exit 9; exec {shlex.join(json.loads(app()))}"
    command = json.dumps(["sh", "-c", script])
    async with running(LISTEN + f"[pool.web]\ncommand = {command}\nbackends = 2\n" + QUICK) as balancer:
        assert "there is no pool 'wob'" in await failed(balancer, "restart", "wob")
        assert "there is no backend 'web-7'" in await failed(balancer, "drain", "web/7")
        assert "there is no backend 'web-7' in pool web" in await failed(balancer, "restart", "web/7")
        assert "0" in await failed(balancer, "scale", "web", "0", code=2)
        assert "expected 1 to 1000 backends" in await failed(balancer, "scale", "web", "1001", code=2)
        broken.touch()
        # Nothing new starts any more; what runs goes on.
        assert "web-2 ended with exit code 9 before it was ready" in await failed(balancer, "scale", "web", "3")
        assert "rolled back: web-0 ended with exit code 9 before it was ready" in await failed(
            balancer, "restart", "web"
        )
        await failed(balancer, "restart", "web/1")
        assert [(b["generation"], b["takes_requests"]) for b in await balancer.backends("web")] == [(1, True)] * 2
        broken.unlink()
        assert await done(balancer, "scale", "web", "2") == "pool web has 2 backends\n"
        balancer.signal(signal.SIGTTIN)
        await balancer.until(lambda s: generations(s) == [1, 1, 2])  # the one that did not start counts


async def test_one_drained_gets_nothing_from_the_next_request_on() -> None:
    async with running(LISTEN + "[proxy]\nprocesses = 2\n" + pool("web", 3, more=QUICK)) as balancer:
        before = await balancer.backends("web")
        assert set(await answering(balancer, 30)) == {"web-0", "web-1", "web-2"}
        assert (await done(balancer, "drain", "web/1")).endswith("web-1 is drained: nothing is on it any more\n")
        assert set(await answering(balancer, 30)) == {"web-0", "web-2"}
        after = await balancer.backends("web")
        assert [b["pid"] for b in after] == [b["pid"] for b in before]
        assert (after[1]["intent"], after[1]["phase"]) == ("drain", "running")
        # A crash does not bring it back.
        os.kill(before[1]["pid"], signal.SIGKILL)
        await balancer.until(
            lambda s: generations(s) == [1, 2, 1] and s["pools"][0]["backends"][1]["health"] == "healthy"
        )
        assert set(await answering(balancer, 30)) == {"web-0", "web-2"}
        await done(balancer, "restart", "web/1")
        assert set(await answering(balancer, 30)) == {"web-0", "web-2"}
        assert await done(balancer, "undrain", "web/1") == "web-1 takes requests\n"
        assert set(await answering(balancer, 30)) == {"web-0", "web-1", "web-2"}
        await done(balancer, "drain", "web-1")
        await done(balancer, "reload")
        assert set(await answering(balancer, 30)) == {"web-0", "web-1", "web-2"}
        await done(balancer, "restart", "web/1")
        assert set(await answering(balancer, 30)) == {"web-0", "web-1", "web-2"}


async def test_a_drain_names_what_it_waits_for() -> None:
    more = QUICK.replace('drain_timeout = "5s"', 'drain_timeout = "1500ms"')
    async with running(LISTEN + pool("web", 2, more=more)) as balancer:
        answers: list[str] = []
        gate = balancer.folder / "go"
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                answers.append((await balancer.get(f"/slow?until={gate}&secret=1")).json()["backend"])

            nursery.start_soon(ask)
            status = await balancer.until(lambda s: any(b["in_flight"] for b in s["pools"][0]["backends"]))
            busy = next(b["name"] for b in status["pools"][0]["backends"] if b["in_flight"])
            result = await balancer.command("drain", busy)
            assert result.returncode == 1
            waits = rf"{busy} gets no new requests\n{busy} waits for 1 request: GET /slow \d+ s\n"
            assert re.search(waits, result.stdout), result
            assert f"{busy} gets no new requests, but after 1.5 s it still has 1 request: GET /slow " in result.stderr
            assert set(await answering(balancer, 4)) == {"web-0", "web-1"} - {busy}
            assert not answers
            gate.touch()
        assert answers == [busy]
        # Now there is nothing left to wait for.
        assert (await done(balancer, "drain", busy)).endswith("nothing is on it any more\n")


async def test_a_reload_that_drains_says_for_what_it_waits() -> None:
    more = QUICK.replace('drain_timeout = "5s"', 'drain_timeout = "30s"')
    async with running(LISTEN + pool("web", 1, more=more)) as balancer:
        said: list[str] = []

        async def reload() -> None:
            said.append(await done(balancer, "reload"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(balancer.get, f"/slow?until={balancer.folder}/go")
            await balancer.until(lambda s: any(b["in_flight"] for b in s["pools"][0]["backends"]))
            nursery.start_soon(reload)
            await balancer.line("web-0 draining")
            await trio.sleep(2.5)  # a drain that lasts is what this is about: after 1 s it says so, which no log shows
            (balancer.folder / "go").touch()
        assert "web-0 waits for 1 request: GET /slow " in said[0]


async def test_weights_are_exact_from_the_next_request_on() -> None:
    async with running(LISTEN + "[proxy]\nprocesses = 1\n" + pool("web", 3, more=QUICK)) as balancer:
        assert await done(balancer, "weight", "web/0", "3") == "web-0 has weight 3\n"
        assert await done(balancer, "weight", "web/1", "0") == "web-1 has weight 0\n"
        assert await answering(balancer, 40) == {"web-0": 30, "web-2": 10}
        assert [b["weight"] for b in await balancer.backends("web")] == [3, 0, 1]
        await done(balancer, "restart", "web")
        assert [b["weight"] for b in await balancer.backends("web")] == [3, 0, 1]
        await done(balancer, "reload")
        assert [b["weight"] for b in await balancer.backends("web")] == [1, 1, 1]


async def test_a_plan_is_what_the_reload_then_does() -> None:
    text = LISTEN.replace("\n\n", '\npool = "web"\n\n') + pool("web", 2, more=QUICK) + pool("api", 1)
    text += '[[route]]\npath = "/api"\npool = "api"\n'
    async with running(text) as balancer:
        good = balancer.config.read_text()
        assert (await balancer.command("plan")).returncode == 0
        await done(balancer, "weight", "web/0", "7")
        await done(balancer, "drain", "api/0")
        await done(balancer, "scale", "web", "3")
        changed = good.replace("[pool.api]", '[pool.api]\nweight = 4\nenv = {SECRET = "s3cret"}')
        changed = changed.replace("[listen.web]", "[listen.web]\nbacklog = 7")
        balancer.config.write_text(changed)
        planned = await balancer.command("plan")
        assert planned.returncode == 2, planned
        assert planned.stdout.splitlines() == [
            "applied live",
            "  pool.api.weight: 1 → 4",
            "  weight of web-0: 7 → 1",
            "  api-0: drained by hand → in rotation",
            "needs new backends in pool web",
            "  pool.web.backends: 3 → 2",
            "needs new backends in pool api",
            "  pool.api.env.SECRET: (not shown), new",
            "needs a restart",
            "  listen.web.backlog: 4096 → 7",
        ]
        reloaded = (await done(balancer, "reload")).splitlines()
        assert "listen.web.backlog needs a restart; it stays 4096" in reloaded
        assert reloaded[-1] == "reload complete, but for what needs a restart: listen.web.backlog"
        status = await balancer.status()
        found = {b["name"]: (b["weight"], b["intent"]) for p in status["pools"] for b in p["backends"]}
        assert found == {"web-0": (1, "serve"), "web-1": (1, "serve"), "api-0": (4, "serve")}
        left = await balancer.command("plan")
        assert left.stdout == "needs a restart\n  listen.web.backlog: 4096 → 7\n"
        balancer.config.write_text("nonsense = 1\n[listen.web]\n")
        assert "cluster.toml:1: nonsense: unknown key" in (await balancer.command("plan")).stderr
        assert (await balancer.command("plan")).returncode == 1


async def test_a_check_knows_how_large_those_are_that_run() -> None:
    async with running(LISTEN + pool("web", 2, more=QUICK)) as balancer:
        said = (await balancer.command("check")).stderr
        assert re.search(r"^memory: pool web: 2 backends, 3 during a reload; [\d.]+M each now$", said, re.M), said
        balancer.config.write_text(balancer.config.read_text().replace("backends = 2", "backends = 4"))
        said = (await balancer.command("check")).stderr
        assert re.search(r"^memory: pool web: 4 backends, 5 during a reload; [\d.]+M each now$", said, re.M), said


async def test_messages_reach_one_or_all() -> None:
    command = json.dumps([sys.executable, TALKER, "thread"])
    text = LISTEN + f'[pool.web]\ncommand = {command}\nbackends = 2\nready.when = "message"\n'
    async with running(text + f'env = {{PYTHONPATH = "{ROOT}"}}\n') as balancer:
        assert await done(balancer, "send", "web", '{"do": "all"}') == "sent to 2 backends\n"
        assert await done(balancer, "send", "web/1", '["one"]') == "sent to 1 backend\n"
        for line in ('web-0 | {"do": "all"}', 'web-1 | {"do": "all"}', 'web-1 | ["one"]'):
            await balancer.line(line)
        assert 'web-0 | ["one"]' not in balancer.text
        assert "not JSON" in await failed(balancer, "send", "web", "hello", code=2)


async def test_replies_are_waited_for_and_printed() -> None:
    command = json.dumps([sys.executable, TALKER, "asyncio"])
    text = LISTEN + f'[pool.web]\ncommand = {command}\nbackends = 2\nready.when = "message"\nrestart.delay = "10ms"\n'
    async with running(text + f'env = {{PYTHONPATH = "{ROOT}"}}\n') as balancer:
        said = await done(balancer, "send", "web", '"work"', "--wait")
        assert sorted(map(json.loads, said.splitlines()), key=str) == [
            {"backend": f"web-{n}", "generation": 1, "data": {"done by": f"web-{n}"}} for n in range(2)
        ]
        assert json.loads(await done(balancer, "send", "web/1", '"work"', "-w"))["backend"] == "web-1"
        assert (
            await failed(balancer, "send", "web/0", '"fail"', "--wait") == "web-0 replied with an error: no such work\n"
        )
        late = await balancer.command("send", "web", '"sleep"', "--wait", "--timeout", "0.2")
        assert (late.returncode, late.stdout) == (1, "")
        assert late.stderr == "web-0 did not reply within 0.2 s\nweb-1 did not reply within 0.2 s\n"
        gone = await failed(balancer, "send", "web/1", '"die"', "--wait", "--timeout", "10")
        assert gone == "web-1 went away before it replied\n"
        assert "there is no pool 'wob'" in await failed(balancer, "send", "wob", "1", "--wait")
        url = f"{balancer.admin_url}/api/v1/backends/web-0/send"
        assert (await balancer.client.post(url, json={"message": "work", "wait": True})).status_code == 403
