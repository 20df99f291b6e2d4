"""The estimate of how long answers take: quick to believe the worse, slow to forget it, and never beyond what was seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.latency import DECAY, Latency

SECONDS = st.floats(0.0001, 60)


@given(st.lists(st.tuples(SECONDS, st.floats(0, 30)), min_size=1, max_size=20), SECONDS, st.floats(0, 100))
def test_it_lies_between_what_was_seen_and_what_the_peers_take(
    answers: list[tuple[float, float]], peers: float, later: float
) -> None:
    latency, now = Latency(), 1.0
    for seconds, pause in answers:
        now += pause
        before = latency.estimate(now, 0.0)
        latency.observe(seconds, now)
        # One that is slower than expected counts at once.
        assert latency.estimate(now, peers) >= seconds * 0.9999 or before > seconds
    seen = [seconds for seconds, _ in answers]
    assert min(*seen, peers) * 0.9999 <= latency.estimate(now + later, peers) <= max(*seen, peers) * 1.0001


def test_silence_brings_it_to_its_peers_and_a_failure_is_a_slow_answer() -> None:
    latency = Latency()
    assert latency.estimate(1.0, 0.05) == 0.05
    latency.observe(0.001, 1.0)
    latency.penalise(1.0, 2.0)
    assert latency.estimate(2.0, 0.05) == 1.0
    assert latency.estimate(2.0 + DECAY, 0.05) == pytest.approx(0.05 + 0.95 / 2.718, abs=0.001)
    assert latency.estimate(2.0 + 10 * DECAY, 0.05) == pytest.approx(0.05, abs=0.001)
