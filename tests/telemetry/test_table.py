"""The shared table: cells that do not overlap, between real processes, and what a dead proxy leaves."""

import subprocess
import sys
from bisect import bisect_left

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import Reason
from balancer.telemetry import table as columns
from balancer.telemetry.table import (
    BUCKETS,
    CODE_LABELS,
    METHODS,
    Table,
    histogram_of,
    observe,
    requests_cell,
    requests_of,
)

WRITER = """
import sys
from balancer.telemetry import table as columns
from balancer.telemetry.table import Table, observe, requests_cell

fd, shape, slot = int(sys.argv[1]), sys.argv[2], int(sys.argv[3])
table = Table.attach(fd, shape)
for _ in range(1000):
    base = table.backend_base(slot, 3)
    table.cells[requests_cell(base, b"GET", 200)] += 1
    observe(table.cells, base + columns.DURATION, 0.02)
    table.cells[base + columns.IN_FLIGHT] += 1
    table.cells[table.listener_base(slot, 0) + columns.CONNECTIONS] += 1
"""


def test_two_processes_write_and_a_third_reads() -> None:
    table = Table.create(proxies=2, listeners=2, pools=2, backends=8)
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(table.fd), table.shape, str(slot)], pass_fds=[table.fd])
        for slot in range(2)
    ]
    assert [writer.wait(30) for writer in writers] == [0, 0]
    row = table.backend_sums(3)
    assert requests_of(row) == [("GET", "200", 2000)]
    counts, total = histogram_of(row, columns.DURATION)
    assert counts[bisect_left(BUCKETS, 0.02)] == sum(counts) == 2000
    assert total == pytest.approx(40.0)
    assert table.in_flight(3) == 2000
    table.clear_gauges(0)
    assert (table.in_flight(3), table.listener_sums(0)[columns.CONNECTIONS]) == (1000, 1000)
    assert requests_of(table.backend_sums(3)) == [("GET", "200", 2000)]


def test_no_cell_belongs_to_two_rows() -> None:
    table = Table.create(proxies=2, listeners=3, pools=3, backends=3)
    rows = [(table.proxy_base(p), columns.PROXY_WIDTH) for p in range(2)]
    for p in range(2):
        rows += [(table.listener_base(p, r), columns.LISTENER_WIDTH) for r in range(3)]
        rows += [(table.pool_base(p, r), columns.POOL_WIDTH) for r in range(3)]
        rows += [(table.backend_base(p, r), columns.BACKEND_WIDTH) for r in range(3)]
    cells = [cell for base, width in rows for cell in range(base, base + width)]
    assert len(set(cells)) == len(cells)
    assert max(cells) < len(table.cells)


def test_the_columns_of_a_row_do_not_overlap() -> None:
    histogram = len(BUCKETS) + 2
    requests = len(METHODS) * len(CODE_LABELS)
    backend = [(columns.REQUESTS, requests), (columns.DURATION, histogram), (columns.RESPONSE, histogram)]
    pool = [(columns.REQUESTS, requests), (columns.DURATION, histogram), (columns.QUEUE, histogram)]
    pool += [(columns.ERRORS, len(Reason)), (columns.RETRIES, len(Reason)), (columns.QUEUE_LENGTH, 1)]
    backend += [
        (c, 1) for c in (columns.CONNECTIONS_NEW, columns.CONNECTIONS_REUSED, columns.SERVER_ERRORS, columns.LAST_MOVED)
    ]
    shared = [(c, 1) for c in (columns.REQUEST_BYTES, columns.RESPONSE_BYTES, columns.IN_FLIGHT)]
    for parts, width in ((backend, columns.BACKEND_WIDTH), (pool, columns.POOL_WIDTH)):
        cells = [cell for start, size in (*parts, *shared) for cell in range(start, start + size)]
        assert sorted(cells) == list(range(width))


@given(st.binary(max_size=10), st.integers(100, 999))
def test_every_request_has_a_cell_with_bounded_labels(method: bytes, code: int) -> None:
    table = Table.create(proxies=1, listeners=1, pools=1, backends=1)
    table.cells[requests_cell(table.backend_base(0, 0), method, code)] += 1
    ((found, label, count),) = requests_of(table.backend_sums(0))
    assert count == 1
    assert found == (method.decode() if method in METHODS else "other")
    assert label in (str(code), f"{code // 100}xx", "other")


@given(st.lists(st.floats(0, 100), max_size=30))
def test_a_histogram_counts_in_its_buckets(durations: list[float]) -> None:
    table = Table.create(proxies=1, listeners=1, pools=1, backends=1)
    for seconds in durations:
        observe(table.cells, table.backend_base(0, 0) + columns.DURATION, seconds)
    counts, total = histogram_of(table.backend_sums(0), columns.DURATION)
    reached = 0
    for bound, count in zip((*BUCKETS, float("inf")), counts, strict=True):
        reached += count
        assert reached == sum(seconds <= bound for seconds in durations)
    assert total == pytest.approx(sum(durations), abs=1e-6 * (len(durations) + 1))
