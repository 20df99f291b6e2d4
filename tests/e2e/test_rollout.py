"""Observed rollouts of a real balancer under load: five kinds of bad release, and troubles that are nobody's release."""

import os
import re
import signal
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import psutil
import pytest

from tests.support.apps import LISTEN, app, pool
from tests.support.load import CLIENTS, Traffic, load
from tests.support.running import Balancer, running

OBSERVED = """
[pool.web.health]
interval = "200ms"
[pool.web.ready]
timeout = "10s"
[pool.web.stop]
drain_timeout = "5s"
timeout = "3s"
[pool.web.rollout]
observe = "1.5s"
max_error_rate = "5%"
"""
DELAY = ("--delay", "0.01")
Status = dict[str, Any]


async def release(balancer: Balancer, *options: str) -> CompletedProcess[str]:
    """Put these options into the file in place of the old ones, and reload."""
    text = balancer.config.read_text().replace(app(*DELAY), app(*options))
    if "--never-listen" in options:
        text = text.replace('timeout = "10s"', 'timeout = "1s"')
    balancer.config.write_text(text)
    return await balancer.command("reload")


async def is_untouched(balancer: Balancer) -> None:
    """The pool is as it was: three of generation 1, and nothing of another one is left."""
    backends = await balancer.backends("web")
    assert [(b["name"], b["generation"], b["takes_requests"]) for b in backends] == [
        ("web-0", 1, True),
        ("web-1", 1, True),
        ("web-2", 1, True),
    ]
    assert sum(b["restarts"] for b in backends) == 0


def by_old(traffic: Traffic) -> set[str]:
    """Names of those of generation 1 that have answered."""
    return {name for name, generation in traffic.backends if generation == "1"}


@pytest.mark.parametrize(
    ("options", "failures", "sentence"),
    [
        (("--exit-at-boot", "3"), 0, "web-0 ended with exit code 3 before it was ready"),
        (("--never-listen",), 0, "web-0 was not ready within 1 s"),
        ((*DELAY, "--errors", "0.2"), 100, "requests failed ("),
        (("--delay", "0.4"), 0, "responses took "),
        ((*DELAY, "--crash-after", "50"), 16, "web-0 (generation 2) crashed after "),
    ],
    ids=["exits at boot", "never ready", "a fifth fails", "much slower", "crashes after fifty"],
)
async def test_a_bad_release_is_taken_back(options: tuple[str, ...], failures: int, sentence: str) -> None:
    text = LISTEN + pool("web", 3, *DELAY, more=OBSERVED)
    async with running(text) as balancer, load(balancer.port, rate=200, clients=16) as traffic:
        await traffic.more(60)
        done = await release(balancer, *options)
        assert done.returncode == 1, done
        assert "rolled back: " in done.stderr
        assert sentence in done.stderr
        assert done.stderr.count("\n") == 1
        await is_untouched(balancer)
        told = await balancer.command("events", "-n", "100")
        assert any("rolled back" in line and sentence in line for line in told.stdout.splitlines()), told.stdout
        failed = traffic.failures.total()
        await traffic.more(60)
        # Whatever failed was on the new one; since it went, nothing does.
        assert traffic.failures.total() == failed <= failures, traffic.failures
        assert by_old(traffic) == {"web-0", "web-1", "web-2"}


async def test_a_good_release_goes_out_after_its_observation() -> None:
    text = LISTEN + pool("web", 3, *DELAY, more=OBSERVED)
    async with running(text) as balancer, load(balancer.port, rate=200, clients=16) as traffic:
        await traffic.more(60)
        done = await release(balancer, *DELAY, "--errors", "0.0")
        assert done.returncode == 0, done
        assert "as good: web-0 (generation 2): 0 of " in done.stdout
        assert [b["generation"] for b in await balancer.backends("web")] == [2, 2, 2]
        assert not traffic.failures, traffic.failures


async def test_what_is_down_for_both_is_not_blamed_on_the_release(tmp_path: Path) -> None:
    database = tmp_path / "down"
    broken = ("--broken", str(database))
    text = LISTEN + pool("web", 3, *broken, more=OBSERVED)
    async with running(text) as balancer, load(balancer.port, rate=200, clients=16) as traffic:
        await traffic.more(20)
        database.touch()
        await traffic.more(60)
        balancer.config.write_text(balancer.config.read_text().replace(app(*broken), app(*broken, *DELAY[:1], "0")))
        done = await balancer.command("reload")
        assert done.returncode == 0, done
        # All but those that were under way when it went down.
        assert re.search(r"\((9\d|100)\.\d%\) on the old ones", done.stdout), done.stdout
        assert [b["generation"] for b in await balancer.backends("web")] == [2, 2, 2]
        database.unlink()


@pytest.mark.parametrize("wanted", ["continue", "rollback"])
async def test_without_traffic_the_file_says_what_to_do(wanted: str) -> None:
    more = OBSERVED.replace('"1.5s"', '"300ms"') + f'on_inconclusive = "{wanted}"\n'
    async with running(LISTEN + pool("web", 3, *DELAY, more=more)) as balancer:
        done = await release(balancer, "--delay", "0")
        if wanted == "continue":
            assert done.returncode == 0, done
            assert "inconclusive: web-0 (generation 2): 0 requests" in done.stdout
            assert [b["generation"] for b in await balancer.backends("web")] == [2, 2, 2]
        else:
            assert done.returncode == 1, done
            assert "fewer than rollout.min_requests = 20" in done.stderr
            await is_untouched(balancer)


async def test_a_release_that_answers_nothing_is_taken_back() -> None:
    more = OBSERVED.replace('drain_timeout = "5s"', 'drain_timeout = "500ms"')
    text = LISTEN + pool("web", 3, *DELAY, more=more)
    async with running(text) as balancer, load(balancer.port, rate=200, clients=60) as traffic:
        await traffic.more(60)
        done = await release(balancer, "--delay", "30")
        assert done.returncode == 1, done
        assert "responses took" in done.stderr
        await is_untouched(balancer)


async def test_while_it_observes_crashes_and_newer_reloads_find_the_old_release() -> None:
    more = OBSERVED.replace('"1.5s"', '"60s"')
    text = LISTEN + pool("web", 2, *DELAY, more=more)
    async with running(text) as balancer, load(balancer.port, rate=100) as traffic:
        await traffic.more(20)
        good = balancer.config.read_text()
        balancer.config.write_text(good.replace(app(*DELAY), app("--delay", "0.011")))
        balancer.signal(signal.SIGHUP)
        status = await balancer.until(lambda s: len(s["pools"][0]["backends"]) == 3 and all(ready(s)))
        old = next(b["pid"] for b in status["pools"][0]["backends"] if (b["name"], b["generation"]) == ("web-0", 1))
        os.kill(old, signal.SIGKILL)
        # Generation 2 is the one under observation; what follows on the one that died is of the old release.
        status = await balancer.until(
            lambda s: generations(s) == [("web-0", 2), ("web-0", 3), ("web-1", 1)] and all(ready(s))
        )
        delays = [psutil.Process(b["pid"]).cmdline()[-1] for b in status["pools"][0]["backends"]]
        assert delays == ["0.011", "0.01", "0.01"]
        balancer.config.write_text(good.replace('"60s"', '"500ms"'))
        done = await balancer.command("reload")
        assert done.returncode == 0, done
        assert "a newer reload took over" in balancer.text
        backends = await balancer.backends("web")
        assert [psutil.Process(b["pid"]).cmdline()[-1] for b in backends] == ["0.01", "0.01"]
        assert [(b["name"], b["takes_requests"]) for b in backends] == [("web-0", True), ("web-1", True)]
        # What was on the one that was killed and could not be sent twice: of each client one request.
        assert traffic.failures.total() <= CLIENTS, traffic.failures


async def test_what_was_replaced_before_is_named() -> None:
    first = pool("api", 1, more='[pool.api.ready]\ntimeout = "5s"')
    text = LISTEN.replace("\n\n", '\npool = "api"\n\n') + first + pool("web", 1, *DELAY)
    async with running(text + '[[route]]\npath = "/web"\npool = "web"\n') as balancer:
        done = await release(balancer, "--exit-at-boot", "3")
        assert done.returncode == 1
        assert "before it was ready; replaced before that, and left so: pool api" in done.stderr


def ready(status: Status) -> list[bool]:
    """Of each process of the first pool, whether it takes requests."""
    return [bool(backend["takes_requests"]) for backend in status["pools"][0]["backends"]]


def generations(status: Status) -> list[tuple[str, int]]:
    """(name, generation) of each process of the first pool."""
    return [(backend["name"], backend["generation"]) for backend in status["pools"][0]["backends"]]
