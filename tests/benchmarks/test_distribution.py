"""What the balancer promises of its shares, and that the comparison runs."""

import pytest
import trio

from tests.benchmarks import distribution

FAMOUS = [14561, 8329, 2356, 4885]  # the run that made the comparison known


def test_the_index() -> None:
    assert distribution.jain([5, 5, 5, 5]) == 1
    assert distribution.jain([7, 0, 0, 0]) == 0.25
    assert round(distribution.jain(FAMOUS), 2) == 0.73


def test_a_line_tells_counts_shares_ratio_variation_and_index() -> None:
    assert distribution.row("shared", FAMOUS) == (
        "| shared | 14,561 | 8,329 | 2,356 | 4,885 | 48.3 / 27.6 / 7.8 / 16.2 | 6.180 | 0.6078 | 0.73025 |"
    )
    assert distribution.row("even", [5, 5]) == "| even | 5 | 5 | 50.0 / 50.0 | 1.000 | 0.0000 | 1.00000 |"
    assert distribution.row("none", [0, 0]) == "| none | 0 | 0 | – / – | ∞ | 0.0000 | 0.00000 |"


@pytest.mark.needs("node", "wrk", why="the distribution benchmark")
@pytest.mark.parametrize("way", [w for w in distribution.WAYS if w.mode != "shared"], ids=lambda way: way.title)
async def test_requests_and_passed_connections_are_shared_evenly(way: distribution.Way) -> None:
    with trio.fail_after(30):
        counts = await distribution._counts(way, 1)
    assert distribution.jain(counts) > 0.999, counts
