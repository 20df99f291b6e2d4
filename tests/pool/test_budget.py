"""The retry budget: a share of the requests, and a floor."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.budget import FLOOR, SAVED, RetryBudget


@given(st.integers(0, 5000), st.floats(0, 1))
def test_in_a_burst_no_more_than_the_share_and_what_was_saved(requests: int, share: float) -> None:
    budget = RetryBudget(share, 0.0)
    granted = 0
    for _ in range(requests):
        budget.deposit()
        granted += budget.withdraw(0.0)
    assert granted <= requests * share + FLOOR + 1


def test_an_outage_of_everything_is_retried_by_a_fifth() -> None:
    budget = RetryBudget(0.2, 0.0)
    granted = 0
    for number in range(100_000):
        budget.deposit()
        granted += budget.withdraw(number / 1000)
    assert 0.19 <= granted / 100_000 <= 0.22


def test_little_traffic_may_always_retry() -> None:
    budget = RetryBudget(0.2, 0.0)
    for second in range(100):
        budget.deposit()
        assert budget.withdraw(float(second))


def test_savings_are_bounded() -> None:
    budget = RetryBudget(0.2, 0.0)
    for _ in range(1_000_000):
        budget.deposit()
    assert sum(budget.withdraw(0.0) for _ in range(1000)) <= FLOOR * SAVED
