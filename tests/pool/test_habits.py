"""What is believed of a backend's idle connections."""

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.habits import SAFE, Habits


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"timeout=5", 5.0),
        (b"timeout=5, max=1000", 5.0),
        (b"max=3; Timeout = 15", 15.0),
        (b'timeout="7"', 7.0),
        (b"timeout=0", 0.0),
        (b"xtimeout=5", inf),
        (b"timeout", inf),
        (b"", inf),
    ],
)
def test_what_it_says(value: bytes, seconds: float) -> None:
    found = Habits()
    found.hear([value] if value else [])
    assert found.announced == seconds


def test_what_it_says_bounds_what_we_keep() -> None:
    found = Habits()
    assert found.kept_for(4) == 4
    found.hear([b"timeout=5"])
    assert found.kept_for(4) == 4
    assert found.kept_for(60) == 4
    found.hear([b"timeout=1"])
    assert found.kept_for(4) == 0.5
    found.hear([b"timeout=0"])
    assert found.kept_for(4) == 0
    assert found.safe_for(4) == 0


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 200)), min_size=1), st.floats(0.1, 100))
def test_nothing_that_it_closed_of_late_counts_as_safe(closes: list[tuple[float, float]], kept: float) -> None:
    found = Habits()
    now = 0.0
    for seconds, pause in closes:
        now += pause
        found.notice(seconds, now)
    assert found.safe_for(kept) <= min(SAFE, kept / 8)
    assert found.safe_for(kept) <= closes[-1][0] / 2


def test_an_early_end_does_not_count_for_ever() -> None:
    found = Habits()
    found.notice(0.01, 0)
    found.notice(5, 200)
    assert found.shortest == 0.01
    found.notice(5, 301)
    assert found.shortest == 5
    found.notice(2, 302)
    assert found.safe_for(100) == SAFE
    found.notice(0.5, 303)
    assert found.safe_for(100) == 0.25
