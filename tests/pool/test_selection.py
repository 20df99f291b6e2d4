"""Policies: exact shares, no bursts, continuity over changes."""

from collections import Counter
from math import ceil
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.selection import (
    POLICIES,
    Candidate,
    Hash,
    LeastConnections,
    PeakEwma,
    Policy,
    RandomTwo,
    SmoothRoundRobin,
)
from tests.pool.model import Item, items


def take(policy: Policy[Item], count: int) -> list[str]:
    chosen = [policy.choose(()) for _ in range(count)]
    return [c.name for c in chosen if c is not None]


def test_five_one_one_is_interleaved() -> None:
    policy = SmoothRoundRobin[Item]()
    policy.offer(items(5, 1, 1))
    assert take(policy, 14) == ["b0", "b0", "b1", "b0", "b2", "b0", "b0"] * 2


@given(st.lists(st.integers(1, 30), min_size=1, max_size=8))
def test_every_window_of_one_cycle_holds_each_weight_exactly(weights: list[int]) -> None:
    policy = SmoothRoundRobin[Item]()
    pool = items(*weights)
    policy.offer(pool)
    total = sum(weights)
    taken = take(policy, 3 * total)
    for start in range(0, 2 * total, max(1, total // 7)):
        window = Counter(taken[start : start + total])
        assert window == {item.name: item.weight for item in pool}


@given(st.lists(st.tuples(st.integers(0, 7), st.integers(1, 9), st.integers(0, 40)), min_size=1, max_size=12))
def test_shares_come_right_again_after_any_change(changes: list[tuple[int, int, int]]) -> None:
    policy = SmoothRoundRobin[Item]()
    pool: list[Item] = items(1, 1)
    policy.offer(pool)
    for index, weight, turns in changes:
        pool = (
            [item for item in pool if item.name != f"b{index}"]
            if len(pool) > 4
            else [*pool, Item(f"b{index}+", weight)]
        )
        policy.offer(pool)
        take(policy, turns)
    total = sum(item.weight for item in pool)
    rounds = 20
    taken = Counter(take(policy, rounds * total))
    names = Counter[str]()
    for item in pool:
        names[item.name] += item.weight
    for name, weight in names.items():
        # What was owed from before the change is paid once, not in each round.
        assert abs(taken[name] - rounds * weight) <= 3 * total


def test_one_that_goes_leaves_the_order_of_the_rest() -> None:
    policy = SmoothRoundRobin[Item]()
    pool = items(1, 1, 1, 1)
    policy.offer(pool)
    assert take(policy, 2) == ["b0", "b1"]
    policy.offer([pool[0], pool[2], pool[3]])
    assert take(policy, 6) == ["b2", "b3", "b0", "b2", "b3", "b0"]


def test_one_that_comes_gets_a_turn_in_the_round() -> None:
    policy = SmoothRoundRobin[Item]()
    pool = items(1, 1, 1)
    policy.offer(pool)
    assert take(policy, 1) == ["b0"]
    policy.offer([*pool, Item("new")])
    assert sorted(take(policy, 4)) == ["b0", "b1", "b2", "new"]


def test_a_cycle_too_long_to_write_down_keeps_its_shares() -> None:
    policy = SmoothRoundRobin[Item]()
    pool = items(1000, 999, 998, 997, 996)
    policy.offer(pool)
    total = sum(item.weight for item in pool)
    assert Counter(take(policy, total)) == {item.name: item.weight for item in pool}


@pytest.mark.parametrize("name", POLICIES)
@given(weights=st.lists(st.integers(1, 50), min_size=1, max_size=6), key=st.binary(max_size=5))
def test_tried_ones_are_passed_over_and_none_is_left_at_the_end(name: str, weights: list[int], key: bytes) -> None:
    policy = POLICIES[name]()
    pool = items(*weights)
    policy.offer(pool)
    tried: list[Candidate] = []
    for _ in pool:
        chosen = policy.choose(tried, key)
        assert chosen in pool
        assert chosen not in tried
        tried.append(chosen)
    assert policy.choose(tried, key) is None


def test_nothing_offered_gives_nothing() -> None:
    for make in POLICIES.values():
        assert make().choose(()) is None


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 50)), min_size=1, max_size=10))
def test_least_connections_takes_the_smallest_share_of_load(backends: list[tuple[int, int]]) -> None:
    policy = LeastConnections[Item]()
    pool = [Item(f"b{i}", weight, load) for i, (weight, load) in enumerate(backends)]
    policy.offer(pool)
    chosen = policy.choose(())
    assert chosen is not None
    assert (chosen.load + 1) / chosen.weight == min((item.load + 1) / item.weight for item in pool)


def test_least_connections_takes_turns_among_equals() -> None:
    policy = LeastConnections[Item]()
    policy.offer(items(1, 1, 1))
    assert Counter(take(policy, 9)) == {"b0": 3, "b1": 3, "b2": 3}


def test_random_two_draws_by_weight_and_takes_the_less_loaded() -> None:
    source = Random(7)
    policy = RandomTwo[Item](source.random)
    policy.offer(items(1, 1, 1, 3))
    taken = Counter(take(policy, 6000))
    # Of equals the first drawn wins, so shares are those of the weights.
    assert abs(taken["b3"] - 3000) < 200
    busy = items(1, 1)
    busy[0].load = 5
    policy.offer(busy)
    assert Counter(take(policy, 100)) == {"b1": 100}


@given(st.lists(st.integers(1, 50), min_size=2, max_size=9), st.floats(0, 0.999999), st.floats(0, 0.999999))
def test_random_two_draws_two_different_ones(weights: list[int], first: float, second: float) -> None:
    draws = iter((first, second))
    policy = RandomTwo[Item](lambda: next(draws))
    policy.offer(items(*weights))
    pair = policy._pair(())
    assert pair is not None
    assert pair[0] is not pair[1]


@given(st.lists(st.tuples(st.integers(1, 10), st.integers(0, 50)), min_size=2, max_size=10), st.integers())
def test_random_two_never_takes_the_one_that_is_loaded_most(backends: list[tuple[int, int]], seed: int) -> None:
    policy = RandomTwo[Item](Random(seed).random)
    pool = [Item(f"b{i}", weight, load) for i, (weight, load) in enumerate(backends)]
    policy.offer(pool)
    chosen = policy.choose(())
    assert chosen is not None
    # Of equals any may be taken.
    others = [item for item in pool if item is not chosen]
    assert chosen.load / chosen.weight <= max(item.load / item.weight for item in others)


@given(
    st.lists(st.tuples(st.integers(0, 50), st.lists(st.floats(0.001, 60), max_size=3)), min_size=2, max_size=10),
    st.floats(3, 100),
    st.integers(),
)
def test_peak_ewma_never_takes_the_one_that_would_answer_last(
    backends: list[tuple[int, list[float]]], now: float, seed: int
) -> None:
    policy = PeakEwma[Item](Random(seed).random, lambda: now)
    pool = [Item(f"b{i}", 1, load) for i, (load, _) in enumerate(backends)]
    for item, (_, answers) in zip(pool, backends, strict=True):
        for at, seconds in enumerate(answers):
            item.latency.observe(seconds, float(at))
    policy.offer(pool)
    chosen = policy.choose(())
    assert chosen is not None
    median = sorted(item.latency.estimate(now, 0.0) for item in pool)[len(pool) // 2]
    expected = {item.name: (item.load + 1) * (item.latency.estimate(now, median) + 1e-4) for item in pool}
    assert expected[chosen.name] <= max(seconds for name, seconds in expected.items() if name != chosen.name)


@given(st.lists(st.integers(1, 20), min_size=2, max_size=8), st.integers(0, 7), st.integers(1, 20))
def test_hash_moves_only_the_keys_of_one_that_goes(weights: list[int], index: int, other_weight: int) -> None:
    policy = Hash[Item]()
    # The heaviest, by which the others are measured, stays.
    pool = items(20, *weights)
    policy.offer(pool)
    keys = [b"client-%d" % number for number in range(100)]
    before = [policy.choose((), key) for key in keys]
    one = pool[1 + index % len(weights)]
    policy.offer([item for item in pool if item is not one])
    after = [policy.choose((), key) for key in keys]
    assert all(new is old or old is one for new, old in zip(after, before, strict=True))
    one.weight = other_weight
    policy.offer(pool)
    again = [policy.choose((), key) for key in keys]
    assert all(new is old or one in (new, old) for new, old in zip(again, before, strict=True))


def test_hash_shares_by_weight() -> None:
    policy = Hash[Item]()
    pool = items(1, 1, 1, 2)
    policy.offer(pool)
    shares = Counter(owner.name for number in range(2000) if (owner := policy.choose((), b"client-%d" % number)))
    assert all(300 * item.weight <= shares[item.name] <= 500 * item.weight for item in pool)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8), st.binary(max_size=20))
def test_hash_bounds_the_load_of_the_one_that_it_chooses(loads: list[int], key: bytes) -> None:
    policy = Hash[Item]()
    pool = [Item(f"b{index}", 1, load) for index, load in enumerate(loads)]
    policy.offer(pool)
    chosen = policy.choose((), key)
    assert chosen is not None
    assert chosen.load < ceil(1.25 * (sum(loads) + 1) / len(loads))
