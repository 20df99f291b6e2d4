"""A request goes to a backend, and the head of its response comes back.

Knows nothing of the client's wire: `Client` gives an `Exchange` and gets a `ResponseHead` and the `Upstream` it stands on.
The claim on the backend stays with the exchange until its owner releases it.
"""

from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.framing import members
from balancer.http1.headers import field_values
from balancer.http1.replies import IDEMPOTENT, may_retry
from balancer.http1.responses import ResponseHead, parse_response
from balancer.net.poller import Poller
from balancer.net.wire import Wire
from balancer.proxy.backend import SMALL_READ, Backend
from balancer.proxy.blame import Exit
from balancer.proxy.exchange import Exchange
from balancer.proxy.pool import Pool
from balancer.proxy.security import Security
from balancer.proxy.upstream import Upstream, connect, is_refusing, take_idle
from balancer.proxy.view import FAILING, View
from balancer.telemetry.table import (
    CONNECTIONS_NEW,
    CONNECTIONS_REUSED,
    LAST_MOVED,
    QUEUE,
    REASON_OFFSET,
    RESPONSE,
    RETRIES,
    observe,
)

MAX_RESPONSE_HEAD: Final = 64 * 1024  # HAProxy's and Envoy's default is of this order; nginx's is 4 to 8 KiB
MAX_RESPONSE_FIELDS: Final = 256
MAX_INTERIM: Final = 32  # 1xx responses before the final one
VERDICT: Final = (
    0.05  # seconds to learn whether a backend that broke off has ended; the supervisor knows within 1 or 2 ms
)
LATE_VERDICT: Final = 1.0  # the same, when nobody listens there any more
_ENDS: Final = frozenset((Reason.RESET, Reason.BAD_RESPONSE))
_STALE: Final = "stale"
_AGAIN: Final = "again"
STALE_TRIES: Final = 3  # kept connections that turn out closed, before a new one is made for certain

Interim = Callable[[ResponseHead], Awaitable[None]]


class Forwarder:
    """Carries requests of one proxy process to backends."""

    def __init__(self, view: View, poller: Poller, security: Security) -> None:
        self._view = view
        self._security = security
        self._poller = poller
        self._cells = view.table.cells

    async def forward(self, x: Exchange, pool: Pool, client: Wire, interim: Interim) -> tuple[ResponseHead, Upstream]:
        """The response head, and the connection with its body. Raises Fault; if `x.backend` is set then, its claim is still held."""
        tried: list[Backend] = []
        attempts_left = pool.picture.retries
        stale_left = STALE_TRIES
        pool.budget.deposit()
        while True:
            backend = pool.claim(tried, x.wish)
            if backend is None:
                if x.fault is not None and tried and not self._has_others(pool, tried):
                    raise x.fault
                backend = await self._queue(pool, tried, client)
                if backend is None:
                    tried.clear()
                    continue
            x.backend = backend
            x.sent_at = 0.0
            upstream = None
            try:
                upstream = take_idle(backend, self._must_be_safe(x)) if stale_left else None
                if upstream is None:
                    upstream = await self._connect(backend, client)
                    self._cells[backend.base + CONNECTIONS_NEW] += 1
                else:
                    self._cells[backend.base + CONNECTIONS_REUSED] += 1
                return await self._attempt(x, upstream, client, interim), upstream
            except BaseException as error:
                if upstream is not None:
                    upstream.close()
                client.watcher = None
                if isinstance(error, Fault) and error.side is Side.CLIENT:
                    raise  # counted on this backend first, and released then
                verdict = None
                try:
                    if isinstance(error, Fault):
                        x.fault = error
                        verdict = await self._verdict(x, backend, upstream, error)
                finally:
                    self._view.release(backend)
                    x.backend = None
                if verdict is None or x.fault is None:
                    raise
                if verdict is _STALE and stale_left:
                    stale_left -= 1
                elif attempts_left and pool.budget.withdraw(monotonic()):
                    attempts_left -= 1
                    tried.append(backend)
                else:
                    raise
                self._cells[pool.base + RETRIES + REASON_OFFSET[x.fault.reason]] += 1
                if backend.exit is not None and backend.exit.delays:
                    await trio.sleep(backend.exit.delays.get(x.fingerprint, 0.0))  # apart from its fellow suspects

    async def _verdict(self, x: Exchange, backend: Backend, upstream: Upstream | None, fault: Fault) -> str | None:
        """After a fault on a backend: whether to try again, on a kept connection's account or on that of `retries`; None: no."""
        if fault.side is not Side.BACKEND:
            return None
        end = None
        if fault.moment is Moment.AFTER_SEND and fault.reason in _ENDS:
            end = await self._exit_of(backend)
        is_stale = end is None and upstream is not None and upstream.is_reused and fault.reason is Reason.RESET
        if not is_stale:
            self._view.observe(backend, fault)
        ended_before = end is not None and end.at < x.sent_at
        is_replayable = x.upload is None or not x.upload.has_begun
        if not is_replayable or not may_retry(fault, x.head.method, ended_before):
            return None
        if end is not None and end.is_own_doing and not ended_before:
            is_suspect = not backend.pool.blame.may_try_again(x.fingerprint, end.casualties)
            return None if is_suspect else _AGAIN
        return _STALE if is_stale else _AGAIN

    async def learn_end(self, backend: Backend, fault: Fault) -> None:
        """After a response has broken off: its claim is held until it is known whether that was a crash, as it may be the one to blame."""
        if fault.side is Side.BACKEND and fault.reason in (Reason.RESET, Reason.TRUNCATED):
            await self._exit_of(backend)

    async def _exit_of(self, backend: Backend) -> Exit | None:
        """How the process ended, if it did: a connection that breaks off is often the first sign of it."""
        if backend.exit is None and backend.is_spawned:
            with trio.move_on_after(VERDICT):
                await backend.exited.wait()
            if backend.exit is None and is_refusing(backend):
                # It is dead, and who should tell us is busy: not knowing why could cost further backends their lives.
                with trio.move_on_after(LATE_VERDICT):
                    await backend.exited.wait()
        return backend.exit

    async def _connect(self, backend: Backend, client: Wire) -> Upstream:
        if client.is_gone():
            raise Fault(Side.CLIENT, Reason.CLIENT_GONE)
        timeout = backend.pool.picture.connect_timeout
        return await connect(backend, self._poller, timeout, client, self._security)

    async def _attempt(self, x: Exchange, upstream: Upstream, client: Wire, interim: Interim) -> ResponseHead:
        wire = upstream.wire
        picture = upstream.backend.pool.picture
        message = x.upstream_head
        if not picture.pass_host or not x.head.host:
            message = with_host(message, upstream.backend.authority)
        if x.body:
            message += x.body
        # From here until the response is through, a client that leaves ends the waits on this backend.
        client.watcher = wire
        if client.left and client.is_gone():
            raise Fault(Side.CLIENT, Reason.CLIENT_GONE)
        x.sent_at = monotonic()
        try:
            sent = wire.send_now(message)
        except Fault as fault:
            fault.moment = Moment.BEFORE_SEND
            raise
        if sent < len(message):
            wire.write_timeout = picture.response_timeout
            await wire.send_rest(message, sent)
        sent_at = x.sent_at
        wire.read_deadline = sent_at + picture.response_timeout
        wire.late = Reason.RESPONSE_TIMEOUT
        if x.upload is not None:
            x.upload.start(upstream)
        head = await self._final_head(x, upstream, interim)
        now = monotonic()
        observe(self._cells, upstream.backend.base + RESPONSE, now - sent_at)
        self._cells[upstream.backend.base + LAST_MOVED] = int(now * 1e9)
        if upstream.backend.pool.wants_latency and head.status not in FAILING:
            upstream.backend.latency.observe(now - sent_at, now)
        return head

    async def _final_head(self, x: Exchange, upstream: Upstream, interim: Interim) -> ResponseHead:
        wire = upstream.wire
        backend = upstream.backend
        method = x.head.method
        buffer = b""
        interims = 0
        while True:
            data = await wire.receive(backend.first_read)
            if backend.first_read != SMALL_READ and len(data) <= SMALL_READ:
                backend.first_read = SMALL_READ
            if not data:
                if buffer:
                    raise Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND, "closed inside the head")
                raise Fault(Side.BACKEND, Reason.RESET, Moment.AFTER_SEND, "closed without a response")
            buffer = buffer + data if buffer else data
            while True:
                head = parse_response(buffer, method, MAX_RESPONSE_HEAD, MAX_RESPONSE_FIELDS)
                if head is None:
                    break
                if head.status >= 200 or head.status == 101:
                    if head.status == 101 and not _was_offered(head.upgrade, x.head.upgrade):
                        raise Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND, "101 that nobody asked for")
                    if not upstream.is_reused:
                        upstream.backend.habits.hear(field_values(head.fields, b"keep-alive"))
                    upstream.buffer = buffer[head.size :]
                    return head
                interims += 1
                if interims > MAX_INTERIM:
                    raise Fault(Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND, "too many interim responses")
                buffer = buffer[head.size :]
                if x.head.minor:
                    await interim(head)
                if not buffer:
                    break

    async def _queue(self, pool: Pool, tried: list[Backend], client: Wire) -> Backend | None:
        """Wait in the pool's line; the backend that was claimed meanwhile, or None: try again. Raises Fault: no sense or no room."""
        if not pool.may_wait():
            raise Fault(Side.BALANCER, Reason.NO_BACKEND)
        joined = monotonic()
        place = pool.join(tried, joined + pool.picture.queue_timeout)
        if isinstance(place, Backend):
            return place
        client.watcher = place
        granted: Backend | None = None
        is_through = False
        try:
            if client.is_gone():
                raise Fault(Side.CLIENT, Reason.CLIENT_GONE)
            await place.wait()
            is_through = True
        finally:
            client.watcher = None
            granted = pool.leave(place)
            observe(self._cells, pool.base + QUEUE, monotonic() - joined)
            if granted is not None and not is_through:
                self._view.release(granted)
        return granted

    @staticmethod
    def _must_be_safe(x: Exchange) -> bool:
        """Whether it does harm if a kept connection turns out to be closed: the request cannot be sent again on another."""
        return x.upload is not None or x.head.method not in IDEMPOTENT

    @staticmethod
    def _has_others(pool: Pool, tried: list[Backend]) -> bool:
        """Whether some backend that was not tried may still come free, or none is there at all and one is expected."""
        return not pool.candidates or any(backend not in tried for backend in pool.candidates)


def _was_offered(taken: bytes, offered: bytes) -> bool:
    """Whether a 101 switches to something, and to nothing that the client had not named (RFC 9110 7.8)."""
    return bool(taken) and set(members([taken])) <= set(members([offered]))


def with_host(message: bytes, authority: bytes) -> bytes:
    """The composed request head with the backend's own Host: composed without one, it gets it behind the request line."""
    line_end = message.index(b"\r\n") + 2
    return b"%sHost: %s\r\n%s" % (message[:line_end], authority, message[line_end:])
