"""One request on its way: what is known of it, and how it is counted in the end."""

from collections.abc import Callable
from time import monotonic

from balancer.errors import Fault, Reason, Side
from balancer.http1.chunked import ChunkedReader, FramingError, chunk
from balancer.http1.framing import CHUNKED
from balancer.http1.headers import field_values
from balancer.http1.heads import RequestHead
from balancer.proxy.affinity import NOTHING
from balancer.proxy.backend import Backend
from balancer.proxy.ourselves import Own
from balancer.proxy.pool import Pool
from balancer.proxy.upload import Upload
from balancer.telemetry.access_log import AccessLog
from balancer.telemetry.table import (
    CODE_OFFSET,
    DURATION,
    ERRORS,
    METHOD_BASE,
    METHOD_OTHER,
    REASON_OFFSET,
    REQUEST_BYTES,
    RESPONSE_BYTES,
    SERVER_ERRORS,
    observe,
)


class Exchange:
    """One request and what became of it. Times are CLOCK_MONOTONIC seconds, sizes bytes of message bodies."""

    __slots__ = (
        "backend",
        "body",
        "endless",
        "fault",
        "head",
        "own",
        "pool",
        "received",
        "request_id",
        "retry_after",
        "sent",
        "sent_at",
        "started",
        "status",
        "target",
        "trusted",
        "upload",
        "upstream_head",
        "wish",
    )

    def __init__(self, head: RequestHead, started: float) -> None:
        # from the client
        self.head = head
        self.target = head.target
        self.started = started
        self.trusted = False
        self.body = b""  # what is at hand of the body
        self.upload: Upload | None = None  # the rest of it, still to come
        # decided here
        self.pool: Pool | None = None
        self.wish = NOTHING
        self.request_id = b""
        self.own: Own | None = None  # what we answer although nothing is wrong
        self.upstream_head = b""
        self.backend: Backend | None = None
        self.sent_at = 0.0  # the attempt in progress
        # to the client
        self.status = 0
        self.retry_after = 0  # seconds, with an answer of our own; 0: not known here
        self.received = 0  # body bytes from the client
        self.sent = 0  # body bytes to the client
        self.fault: Fault | None = None
        self.endless: Callable[[], None] | None = None  # ends what has no end of its own, see `farewell`

    def take_body(self, at_hand: bytes, limit: int) -> tuple[ChunkedReader | None, bytes]:
        """Take what is at hand of its body into `body`; (the reader of a chunked one, what follows the body).

        limit: bytes, 0 for any. Raises Fault if it is malformed or too large.
        """
        length = self.head.length
        if limit and length > limit:
            raise Fault(Side.CLIENT, Reason.BODY_TOO_LARGE)
        if length != CHUNKED:
            self.body = at_hand[:length]
            self.received = len(self.body)
            return None, at_hand[length:]
        reader = ChunkedReader()
        try:
            payload = b"".join(reader.feed(at_hand))
        except FramingError as error:
            raise Fault(Side.CLIENT, Reason.BAD_REQUEST, detail=str(error)) from None
        self.received = len(payload)
        if limit and self.received > limit:
            raise Fault(Side.CLIENT, Reason.BODY_TOO_LARGE)
        self.body = chunk(payload)
        if reader.done:
            self.body += b"0\r\n%s\r\n" % reader.trailers
        return reader, reader.rest if reader.done else b""

    @property
    def fingerprint(self) -> bytes:
        """What kind of request this is: "METHOD /path", without the query, which may hold secrets."""
        return self.head.method + b" " + self.head.target.partition(b"?")[0][:200]

    def let_go(self) -> None:
        """It is over: break the ring of a fault, its traceback and the frames in it that know this exchange.

        It would keep what they hold, pieces of bodies above all, until a collection of garbage, and those are rare.
        """
        if self.fault is not None:
            self.fault.__traceback__ = self.fault.__context__ = None

    def count(self, cells: "memoryview[int]", pool_row: int) -> float:
        """Count it where it belongs: on its backend, or on the pool (`pool_row`) when no backend answered. Gives its seconds."""
        seconds = monotonic() - self.started
        backend = self.backend
        fault = self.fault
        if backend is not None and self.sent_at and backend.pool.picture.concurrency:
            backend.pool.served(self.started + seconds - self.sent_at)
        base = pool_row if backend is None else backend.base
        cells[base + METHOD_BASE.get(self.head.method, METHOD_OTHER) + CODE_OFFSET[self.status]] += 1
        observe(cells, base + DURATION, seconds)
        cells[base + REQUEST_BYTES] += self.received
        cells[base + RESPONSE_BYTES] += self.sent
        if backend is not None and (self.status >= 500 or (fault is not None and fault.side is Side.BACKEND)):
            cells[base + SERVER_ERRORS] += 1
        if fault is not None:
            cells[pool_row + ERRORS + REASON_OFFSET[fault.reason]] += 1
        return seconds

    def log(self, access: AccessLog, address: str, seconds: float) -> None:
        """Write its line in the access log. address: the client's; seconds: as `count` gave them."""
        fields = self.head.fields
        access.write(
            client=address,
            method=self.head.method,
            target=self.head.target,
            minor=self.head.minor,
            status=self.status,
            sent=self.sent,
            seconds=seconds,
            referer=b", ".join(field_values(fields, b"referer")),
            user_agent=b", ".join(field_values(fields, b"user-agent")),
            pool=self.pool.name if self.pool is not None else "",
            backend=self.backend.name if self.backend is not None else "",
            request_id=self.request_id,
            reason=self.fault.reason.value if self.fault is not None else "",
        )
