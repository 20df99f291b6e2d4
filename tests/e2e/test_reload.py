"""Reloads of a real balancer under load: no request is lost, a bad release never serves, a newer reload takes over."""

import os
import signal
import socket

import httpx

from tests.support.apps import LISTEN, app, pool
from tests.support.load import CLIENTS, load
from tests.support.running import Balancer, running

QUICK = """
[pool.web.health]
interval = "100ms"
[pool.web.ready]
timeout = "5s"
[pool.web.stop]
drain_timeout = "5s"
timeout = "3s"
"""


def generations(status: dict[str, object]) -> list[int]:
    """Of the backends of the first pool that take requests."""
    pools: list[dict[str, list[dict[str, int]]]] = status["pools"]  # type: ignore[assignment]
    return [backend["generation"] for backend in pools[0]["backends"] if backend["takes_requests"]]


async def finished(balancer: Balancer, count: int) -> None:
    """Until so many reloads have finished."""
    for _ in range(count):
        await balancer.line("reload finished")


async def test_twenty_reloads_under_load_lose_no_request() -> None:
    # The app has no handler for SIGTERM: it dies at once, in the middle of whatever it does.
    text = LISTEN + pool("web", 2, "--delay", "0.02", more=QUICK)
    async with running(text) as balancer, load(balancer.port, rate=300, clients=12) as traffic:
        await traffic.more(50)
        for number in range(20):
            balancer.signal(signal.SIGHUP)
            await balancer.until(lambda status, n=number: generations(status) == [n + 2] * 2)  # type: ignore[misc]
        await traffic.more(50)
        assert not traffic.failures, (traffic.failures, balancer.text)
        assert {generation for _, generation in traffic.backends} >= {"1", "10", "21"}


async def test_slow_requests_are_finished_by_the_old_ones() -> None:
    import trio

    async with running(LISTEN + pool("web", 1, more=QUICK)) as balancer:
        answers: list[str] = []
        gate = balancer.folder / "go"
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                answers.append((await balancer.get(f"/slow?until={gate}")).json()["generation"])

            nursery.start_soon(ask)
            await balancer.until(lambda s: s["pools"][0]["backends"][0]["in_flight"] == 1)
            balancer.signal(signal.SIGHUP)
            await balancer.line("draining")
            fresh = await balancer.get("/")
            assert fresh.json()["generation"] == "2"
            assert not answers
            gate.touch()
        assert answers == ["1"]


async def test_a_release_that_does_not_start_changes_nothing() -> None:
    async with running(LISTEN + pool("web", 3, more=QUICK)) as balancer:
        good = balancer.config.read_text()
        async with load(balancer.port, rate=200) as traffic:
            # The first slot's new process starts, the second one's does not: the first is swapped back.
            bad = app("--exit-at-boot", "7")
            balancer.config.write_text(good.replace(app(), bad))
            done = await balancer.command("reload")
            assert done.returncode == 1
            assert "web-0 ended with exit code 7 before it was ready" in done.stdout + done.stderr
            assert generations(await balancer.status()) == [1, 1, 1]
            balancer.config.write_text("nonsense = ")
            done = await balancer.command("reload")
            assert done.returncode == 1
            assert "cluster.toml:1" in done.stdout + done.stderr
            # A crash now gets the command that works.
            first = (await balancer.backends("web"))[0]
            os.kill(first["pid"], signal.SIGKILL)
            await balancer.until(lambda s: s["pools"][0]["backends"][0]["pid"] not in (None, first["pid"]))
            await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
            balancer.config.write_text(good)
            done = await balancer.command("reload")
            assert done.returncode == 0, done
            await traffic.more(20)
        assert set(traffic.failures) <= {"status 502 on a kept connection", "status 502 on a new connection"}
        # What was on it when it was killed: one request of a client at most.
        assert traffic.failures.total() <= CLIENTS, traffic.failures


async def test_a_newer_reload_takes_over() -> None:
    async with running(LISTEN + pool("web", 2, more=QUICK)) as balancer:
        good = balancer.config.read_text()
        balancer.config.write_text(good.replace(app(), app("--boot-delay", "60")))
        balancer.signal(signal.SIGHUP)
        await balancer.until(lambda s: len(s["pools"][0]["backends"]) == 3)
        balancer.config.write_text(good)
        done = await balancer.command("reload")
        assert done.returncode == 0, done
        status = await balancer.until(lambda s: len(s["pools"][0]["backends"]) == 2)
        assert all(backend["takes_requests"] for backend in status["pools"][0]["backends"])
        assert "a newer reload took over" in balancer.text


async def test_counts_pools_weights_and_routes_follow_the_file() -> None:
    text = LISTEN + pool("web", 2, more=QUICK)
    async with running(text) as balancer, load(balancer.port, rate=100) as traffic:
        good = balancer.config.read_text()
        more = good.replace("backends = 2", "backends = 3\nweight = 5")
        more += '\n[[route]]\npath = "/new"\npool = "extra"\n[[route]]\npath = "/"\npool = "web"\n' + pool("extra", 1)
        balancer.config.write_text(more)
        done = await balancer.command("reload")
        assert done.returncode == 0, done
        status = await balancer.status()
        assert {b["name"]: b["weight"] for p in status["pools"] for b in p["backends"]} == {
            "web-0": 5,
            "web-1": 5,
            "web-2": 5,
            "extra-0": 1,
        }
        assert (await balancer.get("/new")).json()["backend"] == "extra-0"
        balancer.config.write_text(good.replace("backends = 2", "backends = 1"))
        done = await balancer.command("reload")
        assert done.returncode == 0, done
        status = await balancer.status()
        assert [b["name"] for p in status["pools"] for b in p["backends"]] == ["web-0"]
        assert (await balancer.get("/new")).json()["backend"] == "web-0"
        await traffic.more(20)
        assert not traffic.failures, traffic.failures


async def test_a_new_listener_is_opened_when_the_rest_of_the_reload_has_come_about() -> None:
    text = "[proxy]\nprocesses = 2\n" + LISTEN + pool("web", 2, more=QUICK)
    async with running(text) as balancer, load(balancer.port, rate=100) as traffic:
        good = balancer.config.read_text()
        unix = balancer.folder / "more.sock"
        more = good + f'[listen.more]\naddress = "127.0.0.1:0"\n[listen.unix]\naddress = "unix:{unix}"\n'
        balancer.config.write_text(more.replace(app(), app("--exit-at-boot", "7")))
        assert (await balancer.command("reload")).returncode == 1
        assert not unix.exists()
        assert [listener["name"] for listener in (await balancer.status())["listeners"]] == ["web"]
        balancer.config.write_text(more)
        done = await balancer.command("reload")
        assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "reload complete"), done
        addresses = {listener["name"]: listener["address"] for listener in (await balancer.status())["listeners"]}
        assert list(addresses) == ["web", "more", "unix"]
        assert f"listen.more: listening on {addresses['more']}" in done.stdout
        assert (await balancer.command("plan")).returncode == 0
        async with httpx.AsyncClient(transport=httpx.AsyncHTTPTransport(uds=str(unix))) as client:
            assert (await client.get("http://unix/")).status_code == 200
        await answer_on(balancer, addresses["more"])
        assert 'balancer_connections_total{listener="more"}' in await balancer.metrics()
        # Successors of the proxies that were told of it find it as they find all others.
        before = {proxy["pid"] for proxy in (await balancer.status())["proxies"]}
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        await balancer.until(lambda s: len(s["proxies"]) == 2 and not before & {proxy["pid"] for proxy in s["proxies"]})
        await answer_on(balancer, addresses["more"])
        # What is taken out of the file serves on, and the same file once more changes nothing.
        await traffic.more(20)
        balancer.config.write_text(good)
        last = (await balancer.command("reload")).stdout.splitlines()[-1]
        assert last == "reload complete, but for what needs a restart: listen.more, listen.unix"
        await answer_on(balancer, addresses["more"])


async def answer_on(balancer: Balancer, address: str) -> None:
    """More connections than one proxy would get alone."""
    for _ in range(8):
        assert (await balancer.client.get(f"http://{address}/", headers={"Connection": "close"})).status_code == 200


async def test_an_address_that_cannot_be_had_is_the_end_of_the_reload_before_it_changes_anything() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        async with running(LISTEN + pool("web", 1, more=QUICK)) as balancer:
            taken = f"127.0.0.1:{other.getsockname()[1]}"
            balancer.config.write_text(balancer.config.read_text() + f'[listen.more]\naddress = "{taken}"\n')
            done = await balancer.command("reload")
            assert done.returncode == 1
            assert f"listen.more: cannot listen on {taken}: the address is already in use" in done.stderr
            assert generations(await balancer.status()) == [1]
            assert (await balancer.get("/")).status_code == 200
