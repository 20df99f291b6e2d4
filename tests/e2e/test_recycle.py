"""A leaking backend behind a real balancer under load: it is replaced before it is large, and no request is lost."""

from tests.support.apps import LISTEN, pool
from tests.support.load import load
from tests.support.running import running

QUICK = """
[pool.web.health]
interval = "100ms"
[pool.web.stop]
drain_timeout = "5s"
[pool.web.restart]
"""


def recycled(status: dict[str, list[dict[str, list[dict[str, int]]]]]) -> int:
    """How often backends of the first pool were replaced."""
    return sum(backend["restarts"] for backend in status["pools"][0]["backends"])


async def test_memory_stays_bounded_and_nothing_is_lost() -> None:
    # 256 KiB for each request, 100 requests a second for each of two: the limit is reached every second or two.
    text = LISTEN + pool("web", 2, "--grow", str(256 * 1024), more=QUICK + 'max_memory = "60MB"\n')
    largest = 0
    async with running(text) as balancer, load(balancer.port, rate=200, clients=8) as traffic:
        await traffic.more(20)

        def seen(status: dict[str, list[dict[str, list[dict[str, int]]]]]) -> bool:
            nonlocal largest
            sizes = [backend["memory_bytes"] or 0 for backend in status["pools"][0]["backends"]]
            largest = max(largest, *sizes)
            assert len(sizes) <= 3  # never two at a time
            return recycled(status) >= 4

        await balancer.until(seen, 40)
        await traffic.more(20)
        assert not traffic.failures, (traffic.failures, balancer.text)
        assert largest < 200e6
        metrics = await balancer.metrics()
        assert 'balancer_backend_restarts_total{backend="web-0",pool="web",reason="memory"}' in metrics
        assert 'reason="crash"} 1' not in metrics
        assert "of memory, more than 60 MB" in balancer.text


async def test_requests_are_counted_over_all_proxies() -> None:
    text = LISTEN + "[proxy]\nprocesses = 2\n" + pool("web", 2, more=QUICK + "max_requests = 100\n")
    async with running(text) as balancer, load(balancer.port, rate=200, clients=8) as traffic:
        await balancer.until(lambda status: recycled(status) >= 2, 30)
        assert not traffic.failures, (traffic.failures, balancer.text)
        line = await balancer.line(" recycling")
        assert "requests, about 100" in line
