"""The shared table: every number of the data plane, as 64-bit cells in an anonymous memory file.

The supervisor creates it, each proxy maps it, and each cell has one writer: the proxy in whose section it stands. So counting is
a plain store, `/metrics` asks no proxy anything, `least-connections` sees what the others have in flight, and totals outlive a proxy.

A section per proxy slot; in it a row per backend process, pool and listener, and one for the proxy itself. Behind the sections
stands what the proxies share for writing, a line of waiting requests per pool, changed only under `locked`:

    section = [proxy row][listener rows][pool rows][backend rows]
    file    = [section of proxy 0][section of proxy 1] … [line of pool 0][line of pool 1] …

Rows are handed out by `telemetry.ledger`. The file is sparse: a row that nobody touched takes no memory.
"""

import mmap
import os
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_UN, lockf
from typing import Final

from balancer.errors import Reason

METHODS: Final = (b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"other")
# Codes in use (IANA registry and nginx's 499); any other is counted as its class.
CODES: Final = (
    *(101, 200, 201, 202, 203, 204, 205, 206, 207, 208, 226),
    *(300, 301, 302, 303, 304, 305, 307, 308),
    *(
        400,
        401,
        402,
        403,
        404,
        405,
        406,
        407,
        408,
        409,
        410,
        411,
        412,
        413,
        414,
        415,
        416,
        417,
        418,
        421,
        422,
        423,
        424,
    ),
    *(425, 426, 428, 429, 431, 451, 499),
    *(500, 501, 502, 503, 504, 505, 506, 507, 508, 510, 511),
)
CODE_LABELS: Final = (*map(str, CODES), "1xx", "2xx", "3xx", "4xx", "5xx", "other")
# The default of prometheus_client, which is also OpenTelemetry's advice for HTTP server durations, and two finer ones
# below: a balancer in front of a fast app lives under 5 ms.
BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 30.0, 60.0),
)
REASONS: Final = tuple(Reason)

METHOD_BASE: Final = {method: index * len(CODE_LABELS) for index, method in enumerate(METHODS)}
METHOD_OTHER: Final = METHOD_BASE[b"other"]
CODE_OFFSET: Final = {
    code: CODES.index(code) if code in CODES else len(CODES) + (code // 100 - 1 if code < 600 else 5)
    for code in range(100, 1000)
}
REASON_OFFSET: Final = {reason: index for index, reason in enumerate(REASONS)}

_HISTOGRAM = len(BUCKETS) + 2  # the buckets, +Inf, and the sum in microseconds
_REQUESTS = len(METHODS) * len(CODE_LABELS)

# Columns that a backend row and a pool row share: the requests matrix comes first in both. In a pool row it counts
# what no backend answered.
REQUESTS: Final = 0
DURATION: Final = _REQUESTS
REQUEST_BYTES: Final = DURATION + _HISTOGRAM
RESPONSE_BYTES: Final = REQUEST_BYTES + 1
IN_FLIGHT: Final = RESPONSE_BYTES + 1  # a gauge
_SHARED = IN_FLIGHT + 1

# A backend row goes on with:
RESPONSE: Final = _SHARED  # histogram: request sent to response head
CONNECTIONS_NEW: Final = RESPONSE + _HISTOGRAM
CONNECTIONS_REUSED: Final = CONNECTIONS_NEW + 1
SERVER_ERRORS: Final = CONNECTIONS_REUSED + 1  # responses 5xx and broken ones: what a rollout compares
LAST_MOVED: Final = SERVER_ERRORS + 1  # CLOCK_MONOTONIC nanoseconds of the last byte of a response from it; a gauge
BACKEND_WIDTH: Final = LAST_MOVED + 1

# A pool row goes on with:
ERRORS: Final = _SHARED
RETRIES: Final = ERRORS + len(REASONS)
QUEUE: Final = RETRIES + len(REASONS)  # histogram of the time spent in the queue
QUEUE_LENGTH: Final = QUEUE + _HISTOGRAM  # a gauge
POOL_WIDTH: Final = QUEUE_LENGTH + 1

# A listener row:
CONNECTIONS: Final = 0  # a gauge
CONNECTIONS_TOTAL: Final = 1
HANDSHAKES_FULL: Final = 2  # of TLS, complete
HANDSHAKES_RESUMED: Final = 3
HANDSHAKES_FAILED: Final = 4
LISTENER_WIDTH: Final = 5

# A proxy row:
TICK: Final = 0  # CLOCK_MONOTONIC nanoseconds of the last sweep: shows that the loop turns
FAULTS: Final = 1  # exceptions that nobody expected
PROXY_CONNECTIONS: Final = 2  # a gauge: client connections over all listeners
PROXY_WIDTH: Final = 8

# A pool's line: a ring of tickets between two counters that only grow.
LINE_HEAD: Final = 0
LINE_TAIL: Final = 1
LINE_RING: Final = 2
LINE_PLACES: Final = 4096
LINE_WIDTH: Final = LINE_RING + LINE_PLACES

BACKEND_GAUGES: Final = (IN_FLIGHT, LAST_MOVED)
POOL_GAUGES: Final = (IN_FLIGHT, QUEUE_LENGTH)

CELL = 8


class Table:
    """The cells, mapped. `cells` is a flat view of signed 64-bit integers; the methods say where a row starts."""

    def __init__(self, fd: int, proxies: int, listeners: int, pools: int, backends: int) -> None:
        self.fd = fd
        self.proxies = proxies
        self.listeners = listeners
        self.pools = pools
        self.backends = backends
        self._listener_start = PROXY_WIDTH
        self._pool_start = self._listener_start + listeners * LISTENER_WIDTH
        self._backend_start = self._pool_start + pools * POOL_WIDTH
        self._section = self._backend_start + backends * BACKEND_WIDTH
        self._line_start = self._section * proxies
        size = (self._line_start + pools * LINE_WIDTH) * CELL
        if os.fstat(fd).st_size < size:
            os.ftruncate(fd, size)
        self._map = mmap.mmap(fd, size)
        self.cells = memoryview(self._map).cast("q")

    @classmethod
    def create(cls, proxies: int, listeners: int = 64, pools: int = 128, backends: int = 2048) -> "Table":
        """A new, empty one. Raises OSError when the kernel has no memory file to give."""
        return cls(os.memfd_create("balancer-table", os.MFD_CLOEXEC), proxies, listeners, pools, backends)

    @property
    def shape(self) -> str:
        """The four sizes as "proxies,listeners,pools,backends": how a proxy is told, see `attach`."""
        return f"{self.proxies},{self.listeners},{self.pools},{self.backends}"

    @classmethod
    def attach(cls, fd: int, shape: str) -> "Table":
        """The one behind an inherited descriptor."""
        proxies, listeners, pools, backends = map(int, shape.split(","))
        return cls(fd, proxies, listeners, pools, backends)

    def proxy_base(self, proxy: int) -> int:
        """Where the row of proxy slot `proxy` starts in `cells`."""
        return proxy * self._section

    def listener_base(self, proxy: int, row: int) -> int:
        """Where that listener's row starts in that proxy's section."""
        return proxy * self._section + self._listener_start + row * LISTENER_WIDTH

    def pool_base(self, proxy: int, row: int) -> int:
        """Where that pool's row starts in that proxy's section."""
        return proxy * self._section + self._pool_start + row * POOL_WIDTH

    def backend_base(self, proxy: int, row: int) -> int:
        """Where that backend process's row starts in that proxy's section."""
        return proxy * self._section + self._backend_start + row * BACKEND_WIDTH

    def line_base(self, row: int) -> int:
        """Where the line of that pool starts in `cells`."""
        return self._line_start + row * LINE_WIDTH

    @contextmanager
    def locked(self, row: int) -> Iterator[None]:
        """Hold that pool's line and the places behind it against every other process, for a moment: never await inside.

        A record lock of the kernel: one whose holder dies is free again.
        """
        lockf(self.fd, LOCK_EX, 1, row)
        try:
            yield
        finally:
            lockf(self.fd, LOCK_UN, 1, row)

    def proxy_row(self, proxy: int) -> bytes:
        """A copy of a proxy's row; what it holds: `added([row])`."""
        return self._copy(self.proxy_base(proxy), PROXY_WIDTH)

    def listener_rows(self, row: int) -> list[bytes]:
        """Copies of a listener's row in each proxy's section, for `added`."""
        return [self._copy(self.listener_base(p, row), LISTENER_WIDTH) for p in range(self.proxies)]

    def pool_rows(self, row: int) -> list[bytes]:
        """Copies of a pool's row in each proxy's section, for `added`."""
        return [self._copy(self.pool_base(p, row), POOL_WIDTH) for p in range(self.proxies)]

    def backend_rows(self, row: int) -> list[bytes]:
        """Copies of a backend process's row in each proxy's section, for `added`."""
        return [self._copy(self.backend_base(p, row), BACKEND_WIDTH) for p in range(self.proxies)]

    def listener_sums(self, row: int) -> list[int]:
        """A listener's row, added up over all proxies."""
        return added(self.listener_rows(row))

    def pool_sums(self, row: int) -> list[int]:
        """A pool's row, added up over all proxies."""
        return added(self.pool_rows(row))

    def backend_sums(self, row: int) -> list[int]:
        """A backend process's row, added up over all proxies."""
        return added(self.backend_rows(row))

    def in_flight(self, row: int) -> int:
        """Requests that all proxies together have on this backend process."""
        cells, offset = self.cells, self._backend_start + row * BACKEND_WIDTH + IN_FLIGHT
        return sum(cells[p * self._section + offset] for p in range(self.proxies))

    def last_moved(self, row: int) -> float:
        """When the last byte of a response came from this backend process, CLOCK_MONOTONIC seconds; 0: never."""
        cells, offset = self.cells, self._backend_start + row * BACKEND_WIDTH + LAST_MOVED
        return max(cells[p * self._section + offset] for p in range(self.proxies)) / 1e9

    def clear_backend(self, row: int) -> None:
        """Zero a row in every section; only once no proxy can write to it any more."""
        for proxy in range(self.proxies):
            self._clear(self.backend_base(proxy, row), BACKEND_WIDTH)

    def clear_gauges(self, proxy: int) -> None:
        """Zero what a dead proxy had open; its counters stay."""
        cells = self.cells
        base = self.proxy_base(proxy)
        cells[base + PROXY_CONNECTIONS] = cells[base + TICK] = 0
        for row in range(self.listeners):
            cells[self.listener_base(proxy, row) + CONNECTIONS] = 0
        for row in range(self.pools):
            for gauge in POOL_GAUGES:
                # Read first: storing a zero would give memory to rows that nobody uses.
                if cells[self.pool_base(proxy, row) + gauge]:
                    cells[self.pool_base(proxy, row) + gauge] = 0
        for row in range(self.backends):
            for gauge in BACKEND_GAUGES:
                if cells[self.backend_base(proxy, row) + gauge]:
                    cells[self.backend_base(proxy, row) + gauge] = 0

    def _clear(self, base: int, width: int) -> None:
        self.cells[base : base + width] = memoryview(bytes(width * CELL)).cast("q")

    def _copy(self, base: int, width: int) -> bytes:
        return self.cells[base : base + width].tobytes()


def added(rows: Iterable[bytes]) -> list[int]:
    """Copied rows of one kind, added up column by column; nothing for no rows."""
    lists = [memoryview(row).cast("q").tolist() for row in rows]
    return lists[0] if len(lists) == 1 else list(map(sum, zip(*lists, strict=True)))


def observe(cells: "memoryview[int]", histogram: int, seconds: float) -> None:
    """Add one observation to the histogram that starts at `histogram`: one bucket (not cumulative) and the sum."""
    cells[histogram + bisect_left(BUCKETS, seconds)] += 1
    cells[histogram + _HISTOGRAM - 1] += int(seconds * 1e6)


def requests_cell(base: int, method: bytes, code: int) -> int:
    """The cell that counts requests of this method that ended in this code (100–999), in a backend or pool row."""
    return base + METHOD_BASE.get(method, METHOD_OTHER) + CODE_OFFSET[code]


def histogram_of(row: list[int], histogram: int) -> tuple[list[int], float]:
    """(counts per bucket with +Inf last, not cumulative; sum in seconds) of one histogram in a summed row."""
    counts = row[histogram : histogram + len(BUCKETS) + 1]
    return counts, row[histogram + _HISTOGRAM - 1] / 1e6


def requests_total(row: list[int]) -> int:
    """Requests of all methods and codes in a summed backend or pool row."""
    return sum(row[REQUESTS : REQUESTS + _REQUESTS])


def requests_of(row: list[int]) -> list[tuple[str, str, int]]:
    """(method, code, count) for each cell of a summed backend or pool row that is not zero."""
    codes = len(CODE_LABELS)
    return [
        (METHODS[index // codes].decode(), CODE_LABELS[index % codes], count)
        for index, count in enumerate(row[REQUESTS : REQUESTS + _REQUESTS])
        if count
    ]
