"""Which process answers is seen from outside: in the response, and in the metrics, before and after a reload."""

import re

from tests.support.apps import LISTEN, pool
from tests.support.running import Balancer, running

QUICK = """backend_header = "X-Balancer-Backend"
[pool.web.health]
interval = "100ms"
"""


async def answering(balancer: Balancer) -> set[str]:
    """What four responses say of who gave them."""
    return {(await balancer.get("/")).headers["x-balancer-backend"] for _ in range(4)}


async def measured(balancer: Balancer) -> dict[str, float]:
    """`balancer_backend_generation`, by backend; one series for each, however many processes it has had."""
    found = re.findall(
        r'^balancer_backend_generation{backend="([^"]+)",pool="web"} (\S+)$', await balancer.metrics(), re.M
    )
    assert len(found) == 2
    return {name: float(value) for name, value in found}


async def test_a_reload_is_seen_in_responses_and_metrics() -> None:
    async with running(LISTEN + pool("web", 2, more=QUICK)) as balancer:
        assert await answering(balancer) == {"web-0;generation=1", "web-1;generation=1"}
        assert await measured(balancer) == {"web-0": 1, "web-1": 1}
        assert (await balancer.command("reload")).returncode == 0
        assert await answering(balancer) == {"web-0;generation=2", "web-1;generation=2"}
        assert await measured(balancer) == {"web-0": 2, "web-1": 2}
        assert (await balancer.command("restart", "web/1")).returncode == 0
        assert await answering(balancer) == {"web-0;generation=2", "web-1;generation=3"}
        assert await measured(balancer) == {"web-0": 2, "web-1": 3}
        # The header is live: a reload without the key takes it away.
        balancer.config.write_text(balancer.config.read_text().replace(QUICK.splitlines()[0], ""))
        assert (await balancer.command("reload")).returncode == 0
        assert "x-balancer-backend" not in (await balancer.get("/")).headers
