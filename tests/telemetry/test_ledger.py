"""The ledger: whatever comes and goes, what a slot has counted never goes backwards."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from balancer.telemetry import table as columns
from balancer.telemetry.ledger import Ledger, LedgerFull
from balancer.telemetry.table import Table, added

PROXIES = 2
SLOTS = st.sampled_from([("web", "web-0"), ("web", "web-1"), ("api", "api-0")])
PROXY = st.integers(0, PROXIES - 1)
COUNTERS = [columns.REQUESTS, columns.DURATION, columns.REQUEST_BYTES, columns.SERVER_ERRORS]


class Slots(RuleBasedStateMachine):
    """Processes of slots come, count and go; a plain sum per slot is the oracle."""

    processes = Bundle("processes")

    def __init__(self) -> None:
        super().__init__()
        self.ledger = Ledger(Table.create(PROXIES, listeners=1, pools=1, backends=5))
        self.counted: dict[tuple[str, str], int] = {}
        self.open: dict[int, tuple[str, str]] = {}

    @rule(target=processes, slot=SLOTS)
    def start(self, slot: tuple[str, str]) -> int:
        if len(self.open) == 5:
            with pytest.raises(LedgerFull):
                self.ledger.open(*slot)
            return next(iter(self.open))
        row = self.ledger.open(*slot)
        assert row not in self.open
        assert not any(self.ledger.table.backend_sums(row))
        self.open[row] = slot
        self.counted.setdefault(slot, 0)
        return row

    @rule(row=processes, proxy=PROXY, column=st.sampled_from(COUNTERS), count=st.integers(1, 1000))
    def count(self, row: int, proxy: int, column: int, count: int) -> None:
        if row in self.open:
            table = self.ledger.table
            table.cells[table.backend_base(proxy, row) + column] += count
            table.cells[table.backend_base(proxy, row) + columns.IN_FLIGHT] += 1
            self.counted[self.open[row]] += count

    @rule(row=consumes(processes))
    def end(self, row: int) -> None:
        if row in self.open:
            self.ledger.close(*self.open.pop(row), row)

    @rule(proxy=PROXY)
    def proxy_dies(self, proxy: int) -> None:
        self.ledger.table.clear_gauges(proxy)

    @invariant()
    def totals_are_what_was_counted(self) -> None:
        tally = self.ledger.tally()
        assert list(tally.slots) == sorted(self.counted)
        for slot, count in self.counted.items():
            sums = self.ledger.slot_sums(*slot)
            assert added(tally.slots[slot]) == sums
            assert sum(sums[column] for column in COUNTERS) == count
            if slot not in self.open.values():
                assert sums[columns.IN_FLIGHT] == 0


TestSlots = Slots.TestCase


def test_rows_of_pools_and_listeners_stay() -> None:
    ledger = Ledger(Table.create(1, listeners=2, pools=3, backends=1))
    assert (ledger.pool("web"), ledger.pool("api"), ledger.pool("web")) == (1, 2, 1)
    assert (ledger.listener("a"), ledger.listener("b"), ledger.listener("a")) == (0, 1, 0)
    with pytest.raises(LedgerFull, match="more than 3 pools"):
        ledger.pool("more")
