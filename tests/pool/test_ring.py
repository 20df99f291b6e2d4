"""The ring: what is moved on it is where it would be, had the ring been made anew."""

from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool import ring as ring_module
from balancer.pool.ring import POINTS, Ring
from tests.pool.model import Item

# Names so few that some come twice, as two generations of a slot; a new object for each, or one that was there before.
OFFERS = st.lists(
    st.dictionaries(st.tuples(st.integers(0, 6), st.booleans()), st.integers(1, POINTS), max_size=9),
    min_size=1,
    max_size=8,
)


@given(OFFERS, st.permutations(range(7)), st.sampled_from([0, ring_module._FEW]))
def test_changed_step_by_step_it_is_the_same_as_made_at_once(
    offers: list[dict[tuple[int, bool], int]], order: list[int], few: int
) -> None:
    items = {(n, newer): Item(f"b{n}") for n in order for newer in (False, True)}
    ring = Ring[Item]()
    with patch.object(ring_module, "_FEW", few):  # 0: whatever can be moved is moved, however much it is
        for offer in offers:
            there = [key for key in items if key in offer]
            candidates, counts = [items[key] for key in there], [offer[key] for key in there]
            ring.offer(candidates, counts)
            anew = Ring[Item]()
            anew._known = ring._known
            anew._sort(candidates, counts)
            assert ring.points == anew.points
            assert ring.owners == anew.owners
            assert [ring.owners.count(item) for item in candidates] == counts


def test_a_step_moves_only_what_differs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights rise many times a second, and a pool may be large."""
    ring = Ring[Item]()
    items = [Item(f"b{n}") for n in range(40)]
    ring.offer(items, [POINTS] * 40)
    monkeypatch.setattr(ring, "_sort", lambda *_: pytest.fail("sorted anew"))
    for count in range(POINTS):
        ring.offer(items, [*[POINTS] * 39, count + 1])
    ring.offer(items[1:], [POINTS] * 39)
    ring.offer(items, [POINTS] * 40)
    assert len(ring.points) == 40 * POINTS


def test_of_two_with_one_name_the_last_comes_first() -> None:
    ring = Ring[Item]()
    old, new = Item("b0"), Item("b0")
    ring.offer([old], [POINTS])
    ring.offer([old, new], [POINTS, POINTS])
    assert ring.owners == [new, old] * POINTS
    ring.offer([new], [POINTS])
    assert ring.owners == [new] * POINTS
