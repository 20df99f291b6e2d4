"""Policies: exact shares, no bursts, continuity over changes."""

from collections import Counter
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.selection import POLICIES, LeastConnections, SmoothRoundRobin


@dataclass(eq=False)
class Item:
    name: str
    weight: int = 1
    load: int = 0


def items(*weights: int) -> list[Item]:
    return [Item(f"b{index}", weight) for index, weight in enumerate(weights)]


def take(policy: SmoothRoundRobin[Item], count: int) -> list[str]:
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
    assert Counter(take(policy, 9)) == {"b0": 3, "b1": 3, "b2": 3}  # type: ignore[arg-type]
