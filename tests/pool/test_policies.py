"""What each policy is for, shown by a small simulation; and the table of every policy with its property and its simulation."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from math import ceil, log
from random import Random

import pytest

from balancer.pool.selection import POLICIES, Hash, LeastConnections, PeakEwma, Policy, RandomTwo, SmoothRoundRobin
from tests.pool import test_selection as selection
from tests.pool.model import Item, Model, items


@pytest.mark.parametrize("seed", range(10))
def test_round_robin_is_exact_in_every_cycle_while_backends_fail_and_return(seed: int) -> None:
    chance = Random(seed)
    pool = items(*(chance.randint(1, 5) for _ in range(5)))
    policy = SmoothRoundRobin[Item]()
    there = pool
    for _ in range(30):
        policy.offer(there)
        cycle = sum(item.weight for item in there)
        rounds = [Counter(selection.take(policy, cycle)) for _ in range(3)]
        exact = {item.name: item.weight for item in there}
        # What was owed from before the change is paid in the first round: a request at most.
        assert all(abs(rounds[0][name] - weight) <= 1 for name, weight in exact.items())
        assert rounds[1:] == [exact, exact]
        selection.take(policy, chance.randrange(cycle))  # a change comes at any moment
        gone = [item for item in pool if item not in there]
        if gone and (len(there) == 1 or chance.random() < 0.5):
            there = [item for item in pool if item in there or item is gone[0]]
        else:
            failed = chance.choice(there)
            there = [item for item in there if item is not failed]


def test_least_connections_gives_a_backend_five_times_slower_a_fifth_and_beats_round_robin_at_the_tail() -> None:
    def run(policy: Policy[Item]) -> tuple[float, float]:
        pool = items(1, 1, 1, 1, 1)
        pool[0].seconds *= 5
        found = Model(lambda _: policy, pool).run(6000, rate=0.9 * (4 + 1 / 5) / 0.01)
        return found.taken["b0"] / ((found.taken.total() - found.taken["b0"]) / 4), found.p99()

    least, least_p99 = run(LeastConnections())
    turns, turns_p99 = run(SmoothRoundRobin())
    assert least == pytest.approx(1 / 5, abs=0.06)
    assert turns == pytest.approx(1, abs=0.01)
    assert least_p99 < turns_p99 / 10


def test_random_two_keeps_the_highest_load_near_log_log_n() -> None:
    for count in (100, 1_000, 10_000):
        chance = Random(count)
        policy = RandomTwo[Item](chance.random)
        pool = items(*[1] * count)
        policy.offer(pool)
        alone = Counter(chance.randrange(count) for _ in range(count))
        for _ in range(count):
            chosen = policy.choose(())
            assert chosen is not None
            chosen.load += 1
        # n requests on n backends: ln ln n / ln 2 + O(1) with two choices, ln n / ln ln n with one (Mitzenmacher 2001).
        highest = max(item.load for item in pool)
        assert highest <= log(log(count)) / log(2) + 1
        assert highest < max(alone.values())


def peak_ewma(clock: Callable[[], float]) -> Policy[Item]:
    return PeakEwma[Item](Random(3).random, clock)


@pytest.mark.parametrize(("seconds", "fails"), [(0.2, False), (0.0001, True)], ids=["slow", "failing"])
def test_peak_ewma_leaves_a_backend_in_trouble_and_comes_back(seconds: float, fails: bool) -> None:
    model = Model(peak_ewma, [Item(f"b{index}", seconds=0.02) for index in range(8)])
    troubled, rate = model.pool["b7"], 200.0
    even = 1 / 8
    assert model.run(2000, rate).share("b7") > 0.6 * even
    troubled.seconds, troubled.is_failing = seconds, fails
    assert model.run(1000, rate).share("b7") < 0.2 * even
    assert model.run(2000, rate).share("b7") < 0.05 * even
    troubled.seconds, troubled.is_failing = 0.02, False
    model.run(4000, rate)  # 20 s, twice the time in which the estimate forgets
    assert model.run(2000, rate).share("b7") > 0.6 * even


def test_hash_moves_one_nth_of_the_keys_and_bounds_the_load_under_a_hot_one() -> None:
    policy = Hash[Item]()
    pool = items(*[1] * 10)
    policy.offer(pool)
    keys = [b"client-%d" % number for number in range(5000)]
    before = [policy.choose((), key) for key in keys]
    policy.offer(pool[:-1])
    moved = sum(policy.choose((), key) is not owner for key, owner in zip(keys, before, strict=True))
    assert moved / len(keys) == pytest.approx(1 / 10, abs=0.03)
    policy.offer(pool)
    assert [policy.choose((), key) for key in keys] == before

    model = Model(lambda _: policy, pool)
    calm = model.run(500, rate=2, key=lambda _: b"hot")
    assert max(calm.taken.values()) > 0.9 * calm.taken.total()
    loads: list[tuple[int, int]] = []

    def hot(_: int) -> bytes:
        loads.append((max(item.load for item in pool), sum(item.load for item in pool)))
        return b"hot"

    busy = model.run(3000, rate=900, key=hot)
    assert busy.taken.total() == 3000
    # Seen before each request: nobody took one that made it more than 1.25 times the average.
    for (load, total), (then, _) in pairwise(loads):
        assert then <= max(load, ceil(1.25 * (total + 1) / 10))
    assert max(load for load, _ in loads) > 5
    assert min(busy.taken.values()) > 0


# Every policy: what holds for whatever it is given, and what it is for.
PROMISES = {
    "weighted-round-robin": (
        selection.test_every_window_of_one_cycle_holds_each_weight_exactly,
        test_round_robin_is_exact_in_every_cycle_while_backends_fail_and_return,
    ),
    "least-connections": (
        selection.test_least_connections_takes_the_smallest_share_of_load,
        test_least_connections_gives_a_backend_five_times_slower_a_fifth_and_beats_round_robin_at_the_tail,
    ),
    "random-two": (
        selection.test_random_two_never_takes_the_one_that_is_loaded_most,
        test_random_two_keeps_the_highest_load_near_log_log_n,
    ),
    "peak-ewma": (
        selection.test_peak_ewma_never_takes_the_one_that_would_answer_last,
        test_peak_ewma_leaves_a_backend_in_trouble_and_comes_back,
    ),
    "hash": (
        selection.test_hash_moves_only_the_keys_of_one_that_goes,
        test_hash_moves_one_nth_of_the_keys_and_bounds_the_load_under_a_hot_one,
    ),
}


def test_every_policy_has_a_property_and_a_simulation() -> None:
    assert PROMISES.keys() == POLICIES.keys()
    assert all(hasattr(proof, "hypothesis") for proof, _ in PROMISES.values())
