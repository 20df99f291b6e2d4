"""A balancer in front of several machines that each run one: the files of config/examples/two-tier, and names that change."""

import re
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from tests.support.apps import app
from tests.support.load import load
from tests.support.names import NameServer, name_server
from tests.support.ports import free_port
from tests.support.running import ROOT, Balancer, running

EXAMPLE = ROOT / "config" / "examples" / "two-tier"
NAME = "machines.internal"


def example(name: str, **changes: str) -> str:
    """A file of the example with other values at some keys, each of which it has exactly once before [admin]."""
    text = (EXAMPLE / name).read_text()
    text = text[: text.index("[admin]")]
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^{key} = .*$", lambda _, k=key, v=value: f"{k} = {v}", text)  # type: ignore[misc]
        assert count == 1, key
    return text


def machine(host: str, port: int) -> str:
    text = example(
        "machine.toml", command=app(), backends="2", trusted_proxies='["127.0.0.0/8"]', shutdown_delay='"3s"'
    )
    return text.replace("0.0.0.0:8081", f"{host}:{port}")


def front(port: int, server: NameServer) -> str:
    text = example("front.toml", interval='"100ms"').replace("0.0.0.0:8080", "127.0.0.1:0")
    return text.replace(f"{NAME}:8081", f"{NAME}:{port}") + f'[dns]\nservers = ["127.0.0.1:{server.port}"]\n'


def hosts(status: dict[str, Any]) -> set[str]:
    """The machines that take requests."""
    backends = status["pools"][0]["backends"]
    return {backend["address"].partition(":")[0] for backend in backends if backend["takes_requests"]}


@asynccontextmanager
async def machines(port: int, *names: str) -> AsyncIterator[list[Balancer]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(machine(host, port))) for host in names]


async def test_a_machine_that_is_stopped_is_out_of_rotation_before_it_closes() -> None:
    port = free_port()
    async with name_server() as server, machines(port, "127.0.0.2", "127.0.0.3") as (first, _):
        server.records[f"{NAME}."] = ["127.0.0.2", "127.0.0.3"]
        async with running(front(port, server)) as outer:
            await outer.until(lambda status: hosts(status) == {"127.0.0.2", "127.0.0.3"})
            async with load(outer.port, rate=200) as traffic:
                await traffic.more(50)
                first.signal(signal.SIGTERM)
                await outer.until(lambda status: hosts(status) == {"127.0.0.3"})
                # Still there, and still serving whoever has not noticed.
                answer = await first.client.get(f"http://127.0.0.2:{port}/")
                assert answer.status_code == 200
                ready = await first.client.get(f"http://127.0.0.2:{port}/balancer/ready")
                assert (ready.status_code, ready.text) == (503, "the balancer stops\n")
                assert await first.wait() == 0
                await traffic.more(50)
                async with running(machine("127.0.0.2", port)):
                    await outer.until(lambda status: hosts(status) == {"127.0.0.2", "127.0.0.3"})
                    await traffic.more(50)
                    # What is meant is loss: this one is drained before it goes again.
                    server.records[f"{NAME}."] = ["127.0.0.3"]
                    await outer.until(lambda status: len(status["pools"][0]["backends"]) == 1)
                    await traffic.more(50)
            assert not traffic.failures, (traffic.failures, outer.text)
            assert "status 503" in await outer.line("unhealthy")


async def test_a_name_brings_and_takes_backends_without_a_lost_request() -> None:
    port = free_port()
    async with name_server() as server, machines(port, "127.0.0.2", "127.0.0.3") as _:
        server.records[f"{NAME}."] = ["127.0.0.2"]
        async with running(front(port, server)) as outer, load(outer.port, rate=200) as traffic:
            for addresses in (["127.0.0.2", "127.0.0.3"], ["127.0.0.3"], ["127.0.0.2"]):
                server.records[f"{NAME}."] = addresses
                await outer.until(lambda status, a=addresses: hosts(status) == set(a))  # type: ignore[misc]
                await outer.until(lambda status, a=addresses: len(status["pools"][0]["backends"]) == len(a))  # type: ignore[misc]
                await traffic.more(30)
            server.failing = True
            await outer.line("name not resolved")
            await traffic.more(30)
            assert not traffic.failures, (traffic.failures, outer.text)
            # Two series of one backend would be refused by whoever scrapes them.
            lines = [line for line in (await outer.metrics()).splitlines() if line.startswith("balancer_backend_up{")]
            assert len(lines) == 1


async def test_backends_elsewhere_on_ipv6_and_on_a_unix_socket(tmp_path: Path) -> None:
    port = free_port()
    inner = f'[listen.six]\naddress = "[::1]:{port}"\n[listen.unix]\naddress = "unix:{tmp_path}/app.sock"\n'
    inner += f"[pool.app]\ncommand = {app()}\n"
    outer = '[listen.web]\naddress = "127.0.0.1:0"\n'
    outer += f'[[pool.web.group]]\naddress = "[::1]:{port}"\n[[pool.web.group]]\naddress = "unix:{tmp_path}/app.sock"\n'
    async with running(inner), running(outer + '[pool.web.health]\ninterval = "100ms"\n') as balancer:
        status = await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        addresses = [backend["address"] for backend in status["pools"][0]["backends"]]
        assert addresses == [f"[::1]:{port}", f"unix:{tmp_path}/app.sock"]
        for _ in range(4):
            assert (await balancer.get("/")).json()["backend"] == "app-0"
        # Counted once their end is told, which the client may know first.
        await balancer.until(lambda s: [b["requests_total"] for b in s["pools"][0]["backends"]] == [2, 2])
