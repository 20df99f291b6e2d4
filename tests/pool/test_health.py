"""One streak: the verdict changes after so many in a row, and never by results that alternate."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.health import Streak
from balancer.pool.lifecycle import Health

LIMITS = st.integers(1, 5)


@given(results=st.lists(st.booleans(), max_size=60), rise=LIMITS, fall=LIMITS)
def test_the_verdict_follows_runs_of_results(results: list[bool], rise: int, fall: int) -> None:
    streak = Streak()
    run = 0
    previous: bool | None = None
    for result in results:
        run = run + 1 if result is previous else 1
        previous = result
        before = streak.verdict
        changed = streak.observe(result, rise, fall)
        assert changed == (streak.verdict is not before)
        agrees = Health.HEALTHY if result else Health.UNHEALTHY
        if changed:
            assert streak.verdict is agrees
            if before is not Health.UNKNOWN:
                assert run >= (rise if result else fall)
        elif run >= (rise if result else fall):
            assert streak.verdict is agrees


@given(rise=st.integers(2, 5), fall=st.integers(2, 5), turns=st.integers(1, 50))
def test_alternating_results_change_nothing(rise: int, fall: int, turns: int) -> None:
    streak = Streak()
    assert streak.observe(True, rise, fall)
    for _ in range(turns):
        assert not streak.observe(False, rise, fall)
        assert not streak.observe(True, rise, fall)
    assert streak.verdict is Health.HEALTHY


def test_the_first_pass_is_enough_and_the_first_failures_are_not() -> None:
    passing, failing = Streak(), Streak()
    assert passing.observe(True, 5, 5)
    assert passing.verdict is Health.HEALTHY
    assert not failing.observe(False, 1, 2)
    assert failing.verdict == "unknown"
    assert failing.observe(False, 1, 2)
    assert failing.verdict == "unhealthy"
