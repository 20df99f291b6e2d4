"""Groups: exact shares, rules first, nothing lost when a group has nobody."""

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.groups import GroupSplit, Rule
from balancer.pool.latency import Latency
from balancer.pool.selection import SmoothRoundRobin


@dataclass(eq=False)
class Item:
    name: str
    group: str
    weight: int = 1
    load: int = 0
    latency: Latency = field(default_factory=Latency)


def split(*rules: Rule) -> GroupSplit[Item]:
    return GroupSplit[Item](rules, SmoothRoundRobin[Item])


@given(st.integers(1, 999), st.integers(1, 6), st.integers(1, 6))
def test_a_share_is_exact_whatever_the_number_of_backends(permille: int, stable: int, canary: int) -> None:
    policy = split(Rule("canary", permille / 1000, "", ""), Rule("stable", 0, "", ""))
    pool = [Item(f"s{n}", "stable") for n in range(stable)] + [Item(f"c{n}", "canary") for n in range(canary)]
    policy.offer(pool)
    taken = Counter(chosen.group for _ in range(2000) if (chosen := policy.choose(())) is not None)
    assert taken["canary"] == 2 * permille
    assert taken["stable"] == 2000 - 2 * permille


def test_a_rule_sends_its_requests_and_only_them() -> None:
    policy = split(Rule("canary", 0, "X-Canary", ""))
    policy.offer([Item("s", "stable"), Item("c", "canary")])
    assert {policy.choose(()).name for _ in range(50)} == {"s"}  # type: ignore[union-attr]
    assert {policy.choose((), b"", "canary").name for _ in range(50)} == {"c"}  # type: ignore[union-attr]


def test_a_group_without_anybody_gives_its_part_away() -> None:
    policy = split(Rule("canary", 0.5, "X-Canary", ""))
    policy.offer([Item("s", "stable")])
    assert policy.choose((), b"", "canary") is not None
    assert all(policy.choose(()) is not None for _ in range(10))
    canary = Item("c", "canary")
    policy.offer([canary])
    assert all(policy.choose(()) is canary for _ in range(10))


def test_even_a_group_that_only_a_rule_feeds_is_better_than_nobody() -> None:
    policy = split(Rule("canary", 0, "X-Canary", ""))
    canary = Item("c", "canary")
    policy.offer([canary])
    assert policy.choose(()) is canary


def test_retries_reach_every_backend_once() -> None:
    policy = split(Rule("canary", 0.1, "", ""))
    pool = [Item("s0", "stable"), Item("s1", "stable"), Item("c", "canary")]
    policy.offer(pool)
    tried: list[Item] = []
    while (chosen := policy.choose(tried)) is not None:
        assert chosen not in tried
        tried.append(chosen)
    assert len(tried) == 3
