"""Who owns which row of the shared table, and what is left of those that went: totals never go backwards.

A backend *process* has a row of its own (so that a rollout can compare generations and a drain can be told apart from its
successor), but what is shown is the *slot*: when a process is gone its row is added to the slot's total and used again.
The supervisor alone holds the ledger.
"""

from balancer.errors import BalancerError
from balancer.telemetry.table import BACKEND_GAUGES, BACKEND_WIDTH, Table


class LedgerFull(BalancerError):
    """The shared table has no free row of this kind."""


class Ledger:
    """Hands out rows of `table` and keeps the totals of backend slots over their processes."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self._pools: dict[str, int] = {"": 0}  # row 0: requests that reached no pool
        self._listeners: dict[str, int] = {}
        self._free = list(range(table.backends - 1, -1, -1))
        self._live: dict[tuple[str, str], set[int]] = {}
        self._past: dict[tuple[str, str], list[int]] = {}

    def pool(self, name: str) -> int:
        """The row of a pool, the same for as long as the balancer runs. Raises LedgerFull."""
        return self._assign(self._pools, name, self.table.pools, "pools")

    def listener(self, name: str) -> int:
        """The row of a listener, the same for as long as the balancer runs. Raises LedgerFull."""
        return self._assign(self._listeners, name, self.table.listeners, "listeners")

    def pools(self) -> dict[str, int]:
        """Every pool that ever had a row, "" (no pool) among them, to its row."""
        return dict(self._pools)

    def listeners(self) -> dict[str, int]:
        """Every listener that ever had a row, to its row."""
        return dict(self._listeners)

    def slots(self) -> list[tuple[str, str]]:
        """(pool, backend slot) of everything that was ever counted."""
        return sorted(self._live.keys() | self._past.keys())

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
        sums = self.table.backend_sums(row)
        for gauge in BACKEND_GAUGES:
            sums[gauge] = 0
        past = self._past.get((pool, slot))
        self._past[pool, slot] = sums if past is None else [a + b for a, b in zip(past, sums, strict=True)]
        self.table.clear_backend(row)
        self._free.append(row)

    def slot_sums(self, pool: str, slot: str) -> list[int]:
        """A backend row's columns for the slot: its past processes and those that run now."""
        total = list(self._past.get((pool, slot), ())) or [0] * BACKEND_WIDTH
        for row in self._live.get((pool, slot), ()):
            total = [a + b for a, b in zip(total, self.table.backend_sums(row), strict=True)]
        return total

    def _assign(self, rows: dict[str, int], name: str, limit: int, what: str) -> int:
        if name not in rows:
            if len(rows) >= limit:
                raise LedgerFull(f"more than {limit} {what}")
            rows[name] = len(rows)
        return rows[name]
