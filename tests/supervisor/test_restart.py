"""When a backend is started again: later each time, never later than the limit, soon again once it was well, or not at all."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.supervisor.restart import JITTER, WINDOW, RestartHistory, RestartPolicy

SECONDS = st.floats(0.001, 100)


@given(delay=SECONDS, longest=SECONDS, dice=st.floats(0, 1), crashes=st.integers(1, 40))
def test_delays_double_up_to_the_limit(delay: float, longest: float, dice: float, crashes: int) -> None:
    history, policy = RestartHistory(), RestartPolicy(delay, longest, 10.0)
    for number in range(crashes):
        given_delay = history.after_crash(policy, number * 1000.0, 0.0, dice)
        expected = min(delay * 2**number, longest)
        assert given_delay is not None
        assert expected * (1 - JITTER) * 0.999 <= given_delay <= expected * (1 + JITTER) * 1.001


def test_one_that_ran_well_begins_anew() -> None:
    history, policy = RestartHistory(), RestartPolicy(1.0, 30.0, 10.0)
    assert [history.after_crash(policy, now, 0.0, 0.5) for now in (0.0, 1.0, 2.0)] == [1.0, 2.0, 4.0]
    assert history.after_crash(policy, 20.0, 9.9, 0.5) == 8.0
    assert history.after_crash(policy, 40.0, 10.0, 0.5) == 1.0


@given(gaps=st.lists(st.floats(0.01, 40), min_size=1, max_size=30), limit=st.integers(1, 6))
def test_hold_exactly_when_so_many_fall_into_a_minute(gaps: list[float], limit: int) -> None:
    history, policy = RestartHistory(), RestartPolicy(0.1, 1.0, 10.0, limit)
    now, times = 0.0, []
    for gap in gaps:
        now += gap
        times.append(now)
        recent = [time for time in times if time > now - WINDOW]
        assert (history.after_crash(policy, now, 0.0, 0.5) is None) == (len(recent) >= limit)
        if len(recent) >= limit:
            return


def test_a_new_attempt_on_demand_begins_anew() -> None:
    history, policy = RestartHistory(), RestartPolicy(1.0, 30.0, 10.0, 2)
    assert history.after_crash(policy, 0.0, 0.0, 0.5) == 1.0
    assert history.after_crash(policy, 1.0, 0.0, 0.5) is None
    history.forget()
    assert history.after_crash(policy, 2.0, 0.0, 0.5) == 1.0
