"""handover = "node-cluster" with real Node.js programs that know nothing of us: they call `listen(3000)`, four times on one machine."""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.support.load import load
from tests.support.ports import free_port
from tests.support.programs import find
from tests.support.running import ROOT, Balancer, running

pytestmark = pytest.mark.needs("node", why="Node.js programs that call listen() themselves")

APPS = ROOT / "tests" / "apps"


def text(
    liked: int, *, app: Path = APPS / "cluster.js", backends: int = 4, address: str = "127.0.0.1:0", more: str = ""
) -> str:
    """A pool of a program that likes this port."""
    return f"""[listen.web]
address = "{address}"

[pool.web]
command = {json.dumps([str(find("node")), str(app)])}
backends = {backends}
handover = "node-cluster"
env.LIKED_PORT = "{liked}"
{more}
"""


async def answers(balancer: Balancer, count: int) -> list[dict[str, Any]]:
    """Of so many requests, one after another."""
    return [(await balancer.get("/")).json() for _ in range(count)]


async def test_one_port_four_programs() -> None:
    liked = free_port()
    async with running(text(liked)) as balancer:
        said = await answers(balancer, 8)
        assert [s["backend"] for s in said[:4]] == [s["backend"] for s in said[4:]]
        assert {s["backend"] for s in said} == {"web-0", "web-1", "web-2", "web-3"}
        assert all(s["isWorker"] for s in said)
        assert len({s["id"] for s in said}) == 4
        assert {s["address"]["port"] for s in said} == {liked}
        addresses = {s["address"]["address"] for s in said}
        assert len(addresses) == 4
        assert all(re.match(r"127\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.", address) for address in addresses)
        shown = {b["address"] for b in await balancer.backends("web")}
        assert shown == {f"{address}:{liked}" for address in addresses}
        for name in ("web-0", "web-1", "web-2", "web-3"):
            await balancer.line(f"{name} online")
            await balancer.line(f"{name} listening address=")


async def test_the_balancer_itself_may_listen_on_that_port_everywhere() -> None:
    liked = free_port()
    async with running(text(liked, backends=2, address=f"0.0.0.0:{liked}")) as balancer:
        assert {(await balancer.get("/")).json()["backend"] for _ in range(4)} == {"web-0", "web-1"}


async def test_further_listens_work_or_are_refused_by_name(tmp_path: Path) -> None:
    liked, further = free_port(), free_port()
    path = tmp_path / "app.sock"
    async with running(text(liked, backends=2, more=f'env.FURTHER = "{further},0,{path}"')) as balancer:
        for name in ("web-0", "web-1"):
            assert f":{further}" in await balancer.line(f"{name} listens too")
            await balancer.line(f"{name} | {further}: listens")
            await balancer.line(f"{name} | 0: listens")
            await balancer.line(f"{name} | {path}: ENOTSUP")
            refused = await balancer.line(f"{name} listen refused")
            assert "warning" in refused
            assert str(path) in refused
        assert {s["address"]["port"] for s in await answers(balancer, 4)} == {liked}


async def test_a_worker_that_disconnects_finishes_and_is_replaced_once() -> None:
    async with running(text(free_port(), backends=2)) as balancer:
        left = (await balancer.client.post(balancer.url + "/disconnect")).json()
        await balancer.line(f"{left['backend']} | disconnected")
        await balancer.line(f'{left["backend"]} exited how="exit code 0"')
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        said = await answers(balancer, 4)
        assert {s["backend"] for s in said} == {"web-0", "web-1"}
        assert {s["generation"] for s in said if s["backend"] == left["backend"]} == {"2"}
        assert left["id"] not in {s["id"] for s in said}
    assert sum(f"{left['backend']} started" in line for line in balancer.lines) == 2


async def test_a_reload_loses_nothing() -> None:
    async with running(text(free_port(), backends=3)) as balancer, load(balancer.port, rate=150) as traffic:
        await traffic.more(50)
        done = await balancer.command("reload")
        assert done.returncode == 0, done.stderr + balancer.text
        await traffic.more(50)
        assert not traffic.failures, (traffic.failures, balancer.text)
        assert {generation for _, generation in traffic.backends} == {"1", "2"}


async def test_a_program_that_never_listens_is_said(tmp_path: Path) -> None:
    (tmp_path / "npm").write_text("#!/bin/sh\nunset NODE_CHANNEL_FD NODE_UNIQUE_ID\nexec sleep 60\n")
    (tmp_path / "npm").chmod(0o755)
    silent = text(3000, backends=1, more='ready.timeout = "300ms"')
    silent = re.sub(r"command = .*", f'command = "{tmp_path}/npm start"', silent)
    async with running(silent, ready=False) as balancer:
        assert "npm keeps the channel for itself" in await balancer.line("web-0 channel taken")
        assert "it has not called listen()" in await balancer.line("web-0 start failed")


@pytest.fixture(scope="module")
def express(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the program and express beside it."""
    folder = tmp_path_factory.mktemp("express")
    npm = find("npm")
    if npm is None:
        pytest.skip("npm is not installed")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), "express"]
    trouble = ""
    for _ in range(2):  # what is far away is asked twice
        try:
            done = subprocess.run(install, capture_output=True, text=True, timeout=50, cwd=folder)
        except subprocess.TimeoutExpired:
            trouble = "the npm registry does not answer"
            continue
        if not done.returncode:
            break
        trouble = f"npm cannot install express: {(done.stderr or done.stdout).strip()[-200:]}"
    else:
        pytest.skip(trouble)
    (folder / "app.js").write_text((APPS / "express.js").read_text())
    return folder


async def test_express(express: Path) -> None:
    async with running(text(free_port(), app=express / "app.js"), patience=30) as balancer:
        said = await answers(balancer, 8)
        assert [s["backend"] for s in said[:4]] == [s["backend"] for s in said[4:]]
        assert len({s["pid"] for s in said}) == 4
