"""What the balancer promises of its shares, and that the comparison runs."""

import pytest
import trio

from tests.benchmarks import distribution


def test_the_index() -> None:
    assert distribution.jain([5, 5, 5, 5]) == 1
    assert distribution.jain([7, 0, 0, 0]) == 0.25
    # The run that made the comparison famous.
    assert round(distribution.jain([14561, 8329, 2356, 4885]), 2) == 0.73


@pytest.mark.needs("node", "wrk", why="the distribution benchmark")
@pytest.mark.parametrize("way", [w for w in distribution.WAYS if w.mode != "shared"], ids=lambda way: way.title)
async def test_requests_and_passed_connections_are_shared_evenly(way: distribution.Way) -> None:
    with trio.fail_after(30):
        counts = await distribution._counts(way, 1)
    assert distribution.jain(counts) > 0.999, counts
