"""Who owns which row of the shared table, and what is left of those that went: totals never go backwards.

A backend *process* has a row of its own (so that a rollout can compare generations and a drain can be told apart from its
successor), but what is shown is the *slot*: when a process is gone its row is added to the slot's total and used again.
The supervisor alone holds the ledger.
"""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from balancer.errors import BalancerError
from balancer.telemetry.table import BACKEND_GAUGES, BACKEND_WIDTH, Table, added


class LedgerFull(BalancerError):
    """The shared table has no free row of this kind."""


@dataclass(frozen=True, slots=True)
class Tally:
    """What was counted up to one moment: copies of rows, for `telemetry.table.added` in whichever thread has the time."""

    slots: Mapping[tuple[str, str], Sequence[bytes]]  # by (pool, backend slot), of everything that was ever counted
    pools: Mapping[str, Sequence[bytes]]  # every one that ever had a row, "" (no pool) among them
    listeners: Mapping[str, Sequence[bytes]]  # every one that ever had a row
    proxies: Sequence[bytes]  # by proxy slot


class Ledger:
    """Hands out rows of `table` and keeps the totals of backend slots over their processes."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._pools: dict[str, int] = {"": 0}  # row 0: requests that reached no pool
        self._listeners: dict[str, int] = {}
        self._free = list(range(table.backends - 1, -1, -1))
        self._live: dict[tuple[str, str], set[int]] = {}
        self._past: dict[tuple[str, str], bytes] = {}  # a row, as those that live are copied

    def pool(self, name: str) -> int:
        """The row of a pool, the same for as long as the balancer runs. Raises LedgerFull."""
        return self._assign(self._pools, name, self.table.pools, "pools")

    def listener(self, name: str) -> int:
        """The row of a listener, the same for as long as the balancer runs. Raises LedgerFull."""
        return self._assign(self._listeners, name, self.table.listeners, "listeners")

    def open(self, pool: str, slot: str) -> int:
        """A fresh row for a new process of this slot. Raises LedgerFull."""
        if not self._free:
            raise LedgerFull(f"more than {self.table.backends} backend processes at once")
        row = self._free.pop()
        self._live.setdefault((pool, slot), set()).add(row)
        return row

    def close(self, pool: str, slot: str, row: int) -> None:
        """Fold a process's row into its slot's total; only once no proxy can write to it any more."""
        self._live[pool, slot].remove(row)
        rows = self.table.backend_rows(row)
        if past := self._past.get((pool, slot)):
            rows.append(past)
        sums = added(rows)
        for gauge in BACKEND_GAUGES:
            sums[gauge] = 0
        self._past[pool, slot] = array("q", sums).tobytes()
        self.table.clear_backend(row)
        self._free.append(row)

    def slot_sums(self, pool: str, slot: str) -> list[int]:
        """A backend row's columns for the slot: its past processes and those that run now."""
        return added(self._slot_rows(pool, slot)) or [0] * BACKEND_WIDTH

    def tally(self) -> Tally:
        """Everything as it stands now."""
        table = self.table
        return Tally(
            slots={slot: self._slot_rows(*slot) for slot in sorted(self._live.keys() | self._past.keys())},
            pools={name: table.pool_rows(row) for name, row in self._pools.items()},
            listeners={name: table.listener_rows(row) for name, row in self._listeners.items()},
            proxies=[table.proxy_row(proxy) for proxy in range(table.proxies)],
        )

    def _slot_rows(self, pool: str, slot: str) -> list[bytes]:
        rows = [copy for row in self._live.get((pool, slot), ()) for copy in self.table.backend_rows(row)]
        if past := self._past.get((pool, slot)):
            rows.append(past)
        return rows

    def _assign(self, rows: dict[str, int], name: str, limit: int, what: str) -> int:
        if name not in rows:
            if len(rows) >= limit:
                raise LedgerFull(f"more than {limit} {what}")
            rows[name] = len(rows)
        return rows[name]
