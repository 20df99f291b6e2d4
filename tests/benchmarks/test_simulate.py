"""The simulation is held against what queueing theory knows; a policy's promises are held against the simulation."""

import statistics

import pytest

from tests.benchmarks import queueing
from tests.benchmarks.simulate import ONE_LINE, POLICIES, Outcome, Scenario, exponential, plot, simulate, skewed, table


def mean(outcome: Outcome) -> float:
    return statistics.fmean(outcome.times)


def test_formulas_agree_where_they_meet() -> None:
    assert queueing.alone(0.5) == pytest.approx(2)
    assert queueing.one_line(1, 0.5) == pytest.approx(queueing.alone(0.5))
    assert queueing.one_line(1, 0.5, 4.0) == pytest.approx(queueing.alone(0.5, 4.0))
    assert queueing.better_of_two(0.5, 1_000) == pytest.approx(1, abs=0.01)  # the shortest of all
    assert 1 < queueing.in_turn(0.8) < queueing.alone(0.8)


@pytest.mark.parametrize("policy", ["random", "weighted-round-robin", "random-two", ONE_LINE])
def test_the_simulation_finds_what_theory_says(policy: str) -> None:
    scenario = Scenario("", "", 0.6, exponential, servers=100)
    expected = {
        "random": queueing.alone(0.6),
        "weighted-round-robin": queueing.in_turn(0.6),
        "random-two": queueing.better_of_two(0.6),
        ONE_LINE: queueing.one_line(100, 0.6),
    }[policy]
    # One proxy: several of them in turn are no perfect turns.
    assert mean(simulate(POLICIES[policy], scenario, 40_000, proxies=1)) == pytest.approx(expected, rel=0.06)


def test_one_line_and_service_times_that_differ_much() -> None:
    scenario = Scenario("", "", 0.6, skewed, servers=4)
    found = mean(simulate(None, scenario, 60_000))
    assert found == pytest.approx(queueing.one_line(4, 0.6, 9.58), rel=0.15)


def test_slow_servers_get_less_where_the_policy_sees_it_and_failing_ones_do_not_get_more() -> None:
    slow = Scenario("", "", 0.6, exponential, servers=40, slow=4)
    share = {name: simulate(POLICIES[name], slow, 20_000).slow_share for name in POLICIES}
    assert share["weighted-round-robin"] == pytest.approx(1, abs=0.05)
    assert share["least-connections"] < 0.3
    assert share["peak-ewma"] < 0.15
    failing = Scenario("", "", 0.5, exponential, servers=40, failing=4)
    assert simulate(POLICIES["peak-ewma"], failing, 20_000).slow_share < 0.2
    assert simulate(POLICIES["least-connections"], failing, 20_000).slow_share > 1  # what ejection is there for


def test_the_report_shows_every_policy() -> None:
    scenario = Scenario("even", "even", 0.5, exponential, servers=5)
    outcomes = {name: simulate(make, scenario, 500) for name, make in POLICIES.items()}
    assert len(table(scenario, outcomes)) == len(POLICIES) + 5
    assert plot({"even": outcomes}).count("<rect") == len(POLICIES)
