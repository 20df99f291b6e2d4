"""A line through points that are on one is that line."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.trend import FEWEST, INTERVAL, KEPT, Trend


@given(st.integers(-1000, 1000), st.integers(10**7, 10**8), st.integers(FEWEST, 2 * KEPT), st.integers(0, 10**6))
def test_a_line_is_found(slope: int, start: int, count: int, begin: int) -> None:
    trend = Trend()
    for point in range(count):
        trend.add(begin + point * INTERVAL, start + round(slope * point * INTERVAL))
    assert trend.slope == pytest.approx(slope, abs=0.01)
    now = start + slope * (count - 1) * INTERVAL
    if slope > 0:
        assert trend.seconds_to(round(now) + 1000 * slope) == pytest.approx(1000, rel=0.01)
    elif slope < -1:
        assert trend.seconds_to(10**9) is None


def test_little_says_nothing() -> None:
    trend = Trend()
    for point in range(FEWEST - 1):
        trend.add(point * INTERVAL, point)
        trend.add(point * INTERVAL + 1, 10**9)
    assert trend.slope == 0.0
    assert trend.seconds_to(10**9) is None
