"""Ejection: the cap, growing times, exact windows, and blame only where others do better."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.ejection import LONGEST, WINDOW, Sentence, Window, laggards, may_eject, needs_all


@given(st.integers(1, 200), st.floats(0, 1))
def test_never_more_than_the_share(size: int, share: float) -> None:
    ejected = 0
    while may_eject(size, ejected, share):
        ejected += 1
    assert ejected <= size * share + 1e-6
    assert ejected >= int(size * share - 1e-6)


def test_half_of_one_is_none_and_half_of_two_is_one() -> None:
    assert not may_eject(1, 0, 0.5)
    assert may_eject(2, 0, 0.5)
    assert not may_eject(2, 1, 0.5)


def test_panic_below_the_share_only() -> None:
    assert not needs_all(2, 1, 0.5)
    assert needs_all(4, 1, 0.5)
    assert not needs_all(4, 0, 0.0)


def test_longer_each_time_and_forgotten_after_a_while() -> None:
    sentence = Sentence()
    assert [sentence.begin(float(n * 40), 10.0) for n in range(3)] == [10.0, 20.0, 30.0]
    assert sentence.begin(sentence.until + 101, 10.0) == 10.0


def test_no_ejection_is_for_ever() -> None:
    sentence = Sentence()
    now = 0.0
    for _ in range(100):
        assert sentence.begin(now, 10.0) <= LONGEST
        now = sentence.until


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=2, max_size=40))
def test_the_window_counts_exactly_its_seconds(seconds: list[tuple[int, int]]) -> None:
    window = Window()
    totals = [(0, 0)]
    for good, bad in seconds:
        totals.append((totals[-1][0] + good + bad, totals[-1][1] + bad))
    for total in totals:
        window.add(*total)
    last = seconds[-WINDOW:]
    assert window.counts == (sum(g + b for g, b in last), sum(b for _, b in last))


def test_the_one_that_fails_is_blamed_and_a_fault_of_all_is_nobodys() -> None:
    assert [name for name, _, _ in laggards({"a": (100, 0), "b": (100, 1), "c": (100, 60)}, 0.3)] == ["c"]
    assert laggards({"a": (100, 90), "b": (100, 95), "c": (100, 92)}, 0.3) == []
    assert laggards({"a": (100, 0), "b": (5, 5)}, 0.3) == []
