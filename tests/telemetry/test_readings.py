"""What the supervisor measures itself."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.telemetry.readings import Durations, Growing


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(0, 1000), st.booleans()), max_size=40))
def test_a_sum_over_processes_never_goes_backwards(steps: list[tuple[int, float, bool]]) -> None:
    growing = Growing()
    before = 0.0
    for process, value, is_last in steps:
        growing.observe(process, value)
        if is_last:
            growing.forget(process)
        assert growing.value >= before
        before = growing.value


def test_a_new_process_starts_from_nothing_and_adds() -> None:
    growing = Growing()
    growing.observe(1, 5.0)
    growing.observe(2, 1.0)
    growing.observe(1, 6.0)
    growing.forget(1)
    growing.observe(2, 3.0)
    assert growing.value == 9.0


def test_durations() -> None:
    durations = Durations()
    for seconds in (0.0005, 0.001, 0.02, 1000.0):
        durations.observe(seconds)
    assert (durations.count, durations.counts[0], durations.counts[-1], durations.total) == (4, 2, 1, 1000.0215)
