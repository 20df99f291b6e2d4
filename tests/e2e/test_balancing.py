"""Who gets what, over real processes: shares, loads over all proxies, clients that stay, canaries."""

import os
import signal
from collections import Counter
from pathlib import Path

import trio

from tests.support.apps import LISTEN, app, pool
from tests.support.asking import ask
from tests.support.load import CLIENTS, load
from tests.support.running import Balancer, running

ONE_PROXY = "[proxy]\nprocesses = 1\n\n"
QUICK = '[pool.web.health]\ninterval = "100ms"\n'


def groups(*each: str) -> str:
    """A pool of groups of scripted backends; each: further lines of one."""
    return "[pool.web]\n" + "".join(f"[[pool.web.group]]\ncommand = {app()}\n{more}\n" for more in each)


async def counted(balancer: Balancer, requests: int, *fields: tuple[str, str]) -> Counter[str]:
    """One after the other; by the backend that answered."""
    return Counter([(await ask(balancer.port, fields=fields)).backend for _ in range(requests)])


async def test_weights_are_shares_to_the_request_and_live() -> None:
    async with running(LISTEN + ONE_PROXY + groups("weight = 3", "weight = 1")) as balancer:
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert await counted(balancer, 40) == {"web-0": 30, "web-1": 10}
        done = await balancer.command("weight", "web/web-1", "0")
        assert done.returncode == 0, done
        assert await counted(balancer, 10) == {"web-0": 10}


async def test_least_connections_sees_what_the_other_proxies_have_in_flight() -> None:
    more = 'policy = "least-connections"'
    async with running(LISTEN + "[proxy]\nprocesses = 3\n\n" + pool("web", 4, more=more)) as balancer:
        for turn in range(3):
            got: Counter[str] = Counter()
            gate = balancer.folder / f"go-{turn}"

            async def one(got: Counter[str] = got, gate: Path = gate) -> None:
                got[(await ask(balancer.port, f"/slow?until={gate}")).backend] += 1

            async with trio.open_nursery() as nursery:
                for number in range(8):
                    nursery.start_soon(one)
                    in_flight = number + 1
                    await balancer.until(
                        lambda s, n=in_flight: sum(b["in_flight"] for b in s["pools"][0]["backends"]) == n  # type: ignore[misc]
                    )
                gate.touch()
            # Each proxy by itself would have started at the same backend.
            assert set(got.values()) == {2}, got


async def test_sticky_clients_come_back_to_their_slot_after_a_rolling_reload() -> None:
    more = 'sticky_cookie = "SLOT"\n' + QUICK
    async with running(LISTEN + pool("web", 4, more=more)) as balancer:
        clients = []
        for _ in range(100):
            reply = await ask(balancer.port)
            clients.append((reply.one("set-cookie").partition(";")[0], reply.backend))
        assert Counter(slot for _, slot in clients).keys() == {"web-0", "web-1", "web-2", "web-3"}
        async with load(balancer.port, rate=100) as traffic:
            done = await balancer.command("reload")
            assert done.returncode == 0, done
            await traffic.more(20)
        assert not traffic.failures, traffic.failures
        same = 0
        for cookie, slot in clients:
            reply = await ask(balancer.port, fields=[("Cookie", cookie)])
            same += reply.backend == slot
            assert '"generation": "2"' in reply.body.decode()
        assert same >= 99, same


async def test_a_canary_gets_its_share_exactly_and_live() -> None:
    text = LISTEN + ONE_PROXY + groups("backends = 3", 'name = "canary"\nshare = "20%"') + QUICK
    async with running(text) as balancer:
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert (await counted(balancer, 50))["web-3"] == 10
        status = await balancer.status()
        assert [backend["group"] for backend in status["pools"][0]["backends"]] == ["0", "0", "0", "canary"]
        assert 'balancer_backend_info{backend="web-3",group="canary",pool="web"} 1.0' in await balancer.metrics()
        balancer.config.write_text(balancer.config.read_text().replace('share = "20%"', 'share = "50%"'))
        done = await balancer.command("reload")
        assert done.returncode == 0, done
        assert (await counted(balancer, 50))["web-3"] == 25


async def test_a_canary_takes_only_those_that_carry_its_mark() -> None:
    mark = 'name = "canary"\nmatch_header = "X-Canary: yes"\nmatch_cookie = "canary"'
    async with running(LISTEN + ONE_PROXY + groups("backends = 2", mark)) as balancer:
        await balancer.until(lambda s: all(b["takes_requests"] for b in s["pools"][0]["backends"]))
        assert await counted(balancer, 10) == {"web-0": 5, "web-1": 5}
        assert await counted(balancer, 4, ("X-Canary", "yes")) == {"web-2": 4}
        assert await counted(balancer, 4, ("X-Canary", "no")) == {"web-0": 2, "web-1": 2}
        assert await counted(balancer, 4, ("Cookie", "a=b; canary=1")) == {"web-2": 4}


async def test_each_policy_serves_through_a_crash() -> None:
    for policy in ("random-two", "peak-ewma", "hash"):
        async with running(LISTEN + pool("web", 3, more=f'policy = "{policy}"\n{QUICK}')) as balancer:
            async with load(balancer.port, rate=150) as traffic:
                await traffic.more(30)
                victim = (await balancer.backends("web"))[1]

                os.kill(victim["pid"], signal.SIGKILL)
                await balancer.until(lambda s: s["pools"][0]["backends"][1]["generation"] == 2)
                await traffic.more(30)
            # What was on it when it died may be lost, one request of a client at most; what came later is not.
            assert traffic.failures.total() <= CLIENTS, (policy, traffic.failures)
