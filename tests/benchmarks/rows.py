"""What is measured: each row gives, for one peer and one run, a few numbers by name."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from tests.benchmarks.cpu import cpu_seconds, memory_bytes
from tests.benchmarks.handshakes import count
from tests.benchmarks.load import Shape, idle_connections, send
from tests.benchmarks.peers import Peer

UPLOAD = 1_000_000


@dataclass(frozen=True)
class Conditions:
    """How long and from where."""

    seconds: float
    load_core: int
    idle: int = 5000  # connections of the memory row


@dataclass(frozen=True)
class Measured:
    """One run: numbers by name, in the order of the table's columns; `trouble` voids the row."""

    numbers: dict[str, float]
    trouble: str = ""


@dataclass(frozen=True)
class Row:
    """One table of the report.

    ratio: the number that is compared and shown as a share of nginx's, less is better; fresh: each run has its peer started
    anew, because what one run leaves behind would be counted, or not counted, in the next.
    """

    name: str
    title: str
    measure: Callable[[Peer, Conditions], Measured]
    ratio: str
    fresh: bool = False


def by_request(shape: Shape) -> Callable[[Peer, Conditions], Measured]:
    """Requests per second and processor time for each."""

    def measure(peer: Peer, conditions: Conditions) -> Measured:
        before = cpu_seconds(peer.pid)
        counted = send(shape, port_of(peer, shape), conditions.load_core, conditions.seconds)
        spent = cpu_seconds(peer.pid) - before
        numbers = {
            "req/s": counted.requests / counted.seconds,
            "CPU µs per request": spent / max(counted.requests, 1) * 1e6,
            "p50 ms": counted.p50,
            "p99 ms": counted.p99,
            "core busy %": spent / counted.seconds * 100,
        }
        return Measured(numbers, counted.trouble)

    return measure


def by_byte(shape: Shape) -> Callable[[Peer, Conditions], Measured]:
    """Bytes per second and processor time for a gigabyte (10⁹ bytes)."""

    def measure(peer: Peer, conditions: Conditions) -> Measured:
        before = cpu_seconds(peer.pid)
        counted = send(shape, port_of(peer, shape), conditions.load_core, conditions.seconds)
        spent = cpu_seconds(peer.pid) - before
        gigabytes = (counted.requests * shape.body if shape.body else counted.received) / 1e9
        numbers = {
            "GB/s": gigabytes / counted.seconds,
            "CPU ms per GB": spent * 1000 / gigabytes if gigabytes else math.nan,
            "core busy %": spent / counted.seconds * 100,
        }
        return Measured(numbers, counted.trouble)

    return measure


def port_of(peer: Peer, shape: Shape) -> int:
    """Where a request of that shape goes."""
    return peer.tls_port if shape.tls else peer.port


def resumed(peer: Peer, conditions: Conditions) -> Measured:
    """Processor time for a TLS connection that takes up an earlier session, with one request."""
    before = cpu_seconds(peer.pid)
    found, trouble = count(peer.tls_port, conditions.load_core, conditions.seconds)
    spent = cpu_seconds(peer.pid) - before
    numbers = {"req/s": found / conditions.seconds, "CPU µs per request": spent / max(found, 1) * 1e6}
    return Measured(numbers | {"core busy %": spent / conditions.seconds * 100}, trouble)


def idle_memory(peer: Peer, conditions: Conditions) -> Measured:
    """Memory of the serving processes for each kept connection that waits for its next request."""
    # First a few that are closed again: what is allocated once, whatever the number, is not to be counted.
    for sock in idle_connections(peer.port, max(10, conditions.idle // 20)):
        sock.close()
    before = memory_bytes(peer.pid)
    found = idle_connections(peer.port, conditions.idle)
    after = memory_bytes(peer.pid)
    for sock in found:
        sock.close()
    return Measured({"KB per connection": (after - before) / conditions.idle / 1000})


ROWS = [
    Row("small", "small GET, kept connections", by_request(Shape()), "CPU µs per request"),
    Row("new", "small GET, a new connection for each", by_request(Shape(connection="close")), "CPU µs per request"),
    Row(
        "100k",
        "100 KB download",
        by_byte(Shape("/files/100k", answer=100_000, connections=32, different=64)),
        "CPU ms per GB",
    ),
    Row(
        "10m",
        "10 MB download",
        by_byte(Shape("/files/10m", answer=10_000_000, connections=8, different=16)),
        "CPU ms per GB",
    ),
    Row(
        "upload",
        "1 MB upload",
        by_byte(Shape("/upload", "POST", UPLOAD, answer=8, connections=16, different=8)),
        "CPU ms per GB",
    ),
    Row("tls-small", "small GET over TLS, kept connections", by_request(Shape(tls=True)), "CPU µs per request"),
    Row(
        "tls-10m",
        "10 MB download over TLS",
        by_byte(Shape("/files/10m", answer=10_000_000, connections=8, different=16, tls=True)),
        "CPU ms per GB",
    ),
    Row(
        "tls-full",
        "a TLS connection with a full handshake and one request",
        by_request(Shape(connection="close", tls=True)),
        "CPU µs per request",
    ),
    Row("tls-resumed", "the same with a resumed session", resumed, "CPU µs per request"),
    Row("idle", "memory of an idle connection", idle_memory, "KB per connection", fresh=True),
]
