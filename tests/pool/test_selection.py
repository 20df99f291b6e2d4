"""Policies: exact shares, no bursts, continuity over changes."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from math import ceil
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.latency import Latency
from balancer.pool.selection import POLICIES, Hash, LeastConnections, PeakEwma, Policy, RandomTwo, SmoothRoundRobin


@dataclass(eq=False)
class Item:
    name: str
    weight: int = 1
    load: int = 0
    latency: Latency = field(default_factory=Latency)


def items(*weights: int) -> list[Item]:
    return [Item(f"b{index}", weight) for index, weight in enumerate(weights)]


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


def test_tried_ones_are_passed_over_and_none_is_left_at_the_end() -> None:
    for make in (SmoothRoundRobin[Item], LeastConnections[Item]):
        policy = make()
        pool = items(3, 1, 1)
        policy.offer(pool)
        tried: list[Item] = []
        for _ in pool:
            chosen = policy.choose(tried)
            assert chosen is not None
            assert chosen not in tried
            tried.append(chosen)
        assert policy.choose(tried) is None


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


class Simulation:
    """Backends that work one request at a time in virtual time: enough to see where a policy sends its requests."""

    def __init__(self, policy_of: Callable[[Callable[[], float]], Policy[Item]], seconds: dict[str, float]) -> None:
        self.now = 0.0
        self.seconds = seconds
        self.failing: set[str] = set()
        self.pool = [Item(name) for name in seconds]
        self.policy = policy_of(lambda: self.now)
        self.policy.offer(self.pool)
        self.ending: list[tuple[float, int, Item, float]] = []
        self.count = 0
        self.noise = Random(5)

    def run(self, until: float, rate: float) -> Counter[str]:
        taken = Counter[str]()
        while self.now < until:
            self.now += 1 / rate
            while self.ending and self.ending[0][0] <= self.now:
                end, _, item, began = heappop(self.ending)
                item.load -= 1
                if item.name in self.failing:
                    item.latency.penalise(1.0, end)
                else:
                    item.latency.observe(end - began, end)
            chosen = self.policy.choose(())
            assert chosen is not None
            taken[chosen.name] += 1
            chosen.load += 1
            self.count += 1
            takes = self.seconds[chosen.name] * self.noise.uniform(0.8, 1.2)
            heappush(self.ending, (self.now + takes, self.count, chosen, self.now))
        return taken


def peak_ewma(clock: Callable[[], float]) -> Policy[Item]:
    return PeakEwma[Item](Random(3).random, clock)


def test_peak_ewma_gives_a_fast_failing_backend_no_more_than_its_share() -> None:
    simulation = Simulation(peak_ewma, {"a": 0.05, "b": 0.05, "c": 0.05, "bad": 0.001})
    simulation.failing = {"bad"}
    taken = simulation.run(30, 200)
    assert taken["bad"] <= taken.total() / 4


def test_peak_ewma_leaves_a_slow_backend_and_comes_back_once_it_is_fast_again() -> None:
    simulation = Simulation(peak_ewma, {"a": 0.02, "b": 0.02, "c": 0.02, "d": 0.02})
    simulation.run(5, 200)
    simulation.seconds["d"] = 0.5
    slow = simulation.run(15, 200)
    assert slow["d"] < slow.total() / 4 * 0.4
    simulation.seconds["d"] = 0.02
    simulation.run(15 + 30, 200)
    recovered = simulation.run(15 + 40, 200)
    assert recovered["d"] >= recovered.total() / 4 * 0.8


def test_hash_keeps_a_key_where_it_is_and_moves_only_those_of_one_that_goes() -> None:
    policy = Hash[Item]()
    pool = items(1, 1, 1, 1, 1)
    policy.offer(pool)
    keys = [b"client-%d" % number for number in range(2000)]
    before = {key: policy.choose((), key) for key in keys}
    policy.offer(pool[:4])
    after = {key: policy.choose((), key) for key in keys}
    assert all(after[key] is before[key] for key in keys if before[key] is not pool[4])
    shares = Counter(item.name for item in before.values() if item is not None)
    assert all(250 <= shares[item.name] <= 560 for item in pool)


@given(st.lists(st.integers(0, 40), min_size=2, max_size=8), st.binary(max_size=20))
def test_hash_bounds_the_load_of_the_one_that_it_chooses(loads: list[int], key: bytes) -> None:
    policy = Hash[Item]()
    pool = [Item(f"b{index}", 1, load) for index, load in enumerate(loads)]
    policy.offer(pool)
    chosen = policy.choose((), key)
    assert chosen is not None
    assert chosen.load < ceil(1.25 * (sum(loads) + 1) / len(loads))
