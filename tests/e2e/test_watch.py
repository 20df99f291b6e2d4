"""A file changes, a rolling restart follows; many changes at once are one, and what is not code is left alone."""

import trio

from tests.support.apps import LISTEN, pool
from tests.support.load import load
from tests.support.running import Balancer, running

WATCH = '[pool.web.restart]\nwatch = ["src"]\n[pool.web.health]\ninterval = "100ms"\n'


async def generations(balancer: Balancer) -> list[int]:
    return [backend["generation"] for backend in await balancer.backends("web")]


async def test_a_change_restarts_the_pool_once_without_losing_a_request() -> None:
    async with running(LISTEN + pool("web", 2, more=WATCH)) as balancer:
        await balancer.line("src is not there")
        source = balancer.folder / "src"
        source.mkdir()
        (source / "app.py").write_text("one")
        # Only from now on is there something to watch: write until it is noticed.
        with trio.fail_after(10):
            while "web changed" not in balancer.text:
                (source / "app.py").write_text("two")
                await trio.sleep(0.3)  # when the watcher of another process is up there is no event
        await balancer.line("restart finished")
        before = await generations(balancer)
        async with load(balancer.port, rate=100) as traffic:
            for number in range(10):
                (source / f"module{number}.py").write_text("new")
                (source / "__pycache__").mkdir(exist_ok=True)
                await trio.sleep(0.03)  # one after the other, as an editor or a checkout does
            await balancer.until(
                lambda s: [b["generation"] for b in s["pools"][0]["backends"]] == [g + 1 for g in before]
            )
            await traffic.more(30)
        assert not traffic.failures, traffic.failures
        told = [line for line in balancer.lines if "web changed" in line]
        assert "more" in told[-1]
        # What is no source is not looked at.
        (source / "__pycache__" / "app.pyc").write_text("x")
        (source / "app.py~").write_text("x")
        with trio.move_on_after(0.6):
            await balancer.until(lambda s: s["pools"][0]["backends"][0]["generation"] > before[0] + 1, 5)
        assert await generations(balancer) == [g + 1 for g in before]
