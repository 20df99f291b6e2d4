"""One client connection that speaks HTTP/1.1: reads requests, has them forwarded, writes the answers.

All that is peculiar to HTTP/1.1 on the client's side lives here: pipelining, keep-alive, framing of the answer. A connection is one task;
only a request whose body is still arriving needs a second one (`proxy/upload`).
"""

from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.framing import CHUNKED
from balancer.http1.headers import downstream_fields
from balancer.http1.heads import RequestHead, parse_request
from balancer.http1.replies import closes, status_of
from balancer.http1.responses import ResponseHead
from balancer.net.linger import linger
from balancer.net.wire import Wire
from balancer.proxy import relay
from balancer.proxy.compose import compose_request, own_answer, own_request_id, response_start
from balancer.proxy.exchange import Exchange
from balancer.proxy.farewell import ending_of
from balancer.proxy.ourselves import own_word
from balancer.proxy.pace import PIPELINED
from balancer.proxy.pool import Pool
from balancer.proxy.service import Service
from balancer.proxy.tunnel import Tunnel
from balancer.proxy.upload import Upload
from balancer.proxy.upstream import Upstream

TURNED_AWAY: Final = 1.0  # seconds for the head of a request that gets a refusal whatever it says
_NOTHING: Final = RequestHead(b"-", b"-", 1, b"", 0, b"", [])  # stands for a request that could not be read


class Client:
    """A connected client.

    waits_since: CLOCK_MONOTONIC seconds since when it is idle between requests; 0 while it is not. started: when the first byte of
    its present or last request came. exchange: the request that is being served.
    """

    __slots__ = (
        "_buffer",
        "_lingers",
        "_served",
        "_service",
        "address",
        "exchange",
        "hsts",
        "identity",
        "is_trusted",
        "listener",
        "proto",
        "started",
        "waits_since",
        "wire",
    )

    def __init__(self, service: Service, wire: Wire, listener: str, address: str, is_trusted: bool) -> None:
        # process
        self._service = service
        # connection
        self.wire = wire
        self.listener = listener
        self.address = address
        self.is_trusted = is_trusted
        self.proto = b"http"
        self.identity = b""  # the lines that tell a backend of its certificate
        self.hsts = 0  # seconds of Strict-Transport-Security
        self._buffer = b""  # read, but not used yet
        self._served = 0
        self._lingers = False  # the client may still be sending when our last word is said
        self.waits_since = 0.0
        wire.write_timeout = service.view.picture.body_timeout
        wire.late_write = Reason.CLIENT_GONE
        # request
        self.started = 0.0
        self.exchange: Exchange | None = None

    async def run(self) -> None:
        """Serve it until it or we have had enough. Never raises but for cancellation; the wire is closed by whoever started it."""
        try:
            while True:
                try:
                    head = await self._read_head()
                except Fault as fault:
                    await self._refuse_unread(fault)
                    break
                if head is None or not await self._serve(head):
                    break
            if self._lingers:
                await linger(self.wire)
        except Fault:
            pass  # the client is gone, at a moment when nothing was owed to it
        except Exception as error:
            self._service.report_bug(error)

    async def turn_away(self, fault: Fault) -> None:
        """Answer its first request with this, if one comes soon, and nothing more."""
        head = None
        try:
            with trio.move_on_after(TURNED_AWAY):
                head = await self._read_head()
            if head is not None:
                await self._refuse(Exchange(head, self.started), None, fault)
                await linger(self.wire)
        except Fault:
            pass

    async def refuse_handshake(self, fault: Fault) -> None:
        """Tell who does not speak TLS, in plain; let others read what TLS has told them."""
        try:
            if fault.reason is Reason.PLAIN_HTTP:
                await self._refuse_unread(fault)
            if fault.reason in (Reason.PLAIN_HTTP, Reason.TLS_FAILED):
                await linger(self.wire)
        except Fault:
            pass

    def has_something_to_say(self) -> bool:
        """Whether bytes of a request have come that nobody has read yet. Asks the kernel."""
        return self.wire.fd >= 0 and self.wire.has_bytes()

    async def _read_head(self) -> RequestHead | None:
        """The next request head; None when the client has left, or idled too long. Raises Fault."""
        wire = self.wire
        picture = self._service.view.picture
        data = self._buffer
        if data:
            # Pipelined requests that are all here already would never let another task run.
            await self._service.pace.turn(PIPELINED)
            data = b"" if wire.is_gone() else data
        else:
            now = monotonic()
            self.waits_since = now
            wire.late = Reason.HEAD_TIMEOUT
            wire.read_deadline = now + (picture.idle_timeout if self._served else picture.header_timeout)
            if self._service.view.stopping and self._served:
                return None
            try:
                data = await wire.receive()
            except Fault:
                return None  # nothing was asked, so nothing is answered
            self.waits_since = 0.0
        self.started = monotonic()
        wire.read_deadline = self.started + picture.header_timeout
        while True:
            if not data:
                return None
            head = parse_request(data, picture.max_header_size, picture.max_headers)
            if head is not None:
                self._buffer = data
                return head
            wire.late = Reason.HEAD_TIMEOUT
            more = await wire.receive()
            data = data + more if more else b""

    async def _serve(self, head: RequestHead) -> bool:
        """Answer one request; whether the connection goes on."""
        x = Exchange(head, self.started)
        self.exchange = x
        self._served += 1
        length = head.length
        try:
            if not length:
                self._buffer = self._buffer[head.size :]
                return await self._exchange(x)
            reader, self._buffer = x.take_body(self._buffer[head.size :], self._service.view.picture.max_body_size)
            if x.received == length or (reader is not None and reader.done):
                return await self._exchange(x)
            async with trio.open_nursery() as nursery:
                picture = self._service.view.picture
                x.upload = Upload(self.wire, nursery, self._service.pipes, self._service.pace, picture.body_timeout)
                x.upload.expect(length, x.received, reader, picture.max_body_size)
                goes_on = await self._exchange(x)
                nursery.cancel_scope.cancel()
            return goes_on
        except Fault as fault:
            return await self._refuse(x, None, fault)
        finally:
            self.exchange = None
            x.let_go()

    def _check_rate(self, x: Exchange) -> None:
        limits = self._service.view.limits.get(self.listener)
        if limits is not None:
            x.retry_after = limits.take(self.address, x.started)
            if x.retry_after:
                raise Fault(Side.CLIENT, Reason.TOO_MANY_REQUESTS)

    async def _exchange(self, x: Exchange) -> bool:
        """Have it forwarded and answer it; whether the connection goes on."""
        service = self._service
        wire = self.wire
        pool: Pool | None = None
        try:
            if service.view.limits:
                self._check_rate(x)
            x.own = own_word(x.head, self.listener, service.view)
            if x.own is not None:
                return await self._refuse(x, None, None)
            pool, x.target = service.view.route(self.listener, x.head.host, x.target)
            x.pool = pool
            if pool.quarantine and pool.refuses(x.fingerprint):
                x.retry_after = round(pool.picture.quarantine_time)
                raise Fault(Side.BALANCER, Reason.QUARANTINED)
            if pool.wishes is not None:
                x.wish = pool.wishes.of(x.head, self.address)
            compose_request(x, service, self, pool.picture.pass_host)
            response, upstream = await service.forwarder.forward(x, pool, wire, self._send_interim)
        except Fault as fault:
            return await self._refuse(x, pool, fault)
        except trio.Cancelled:
            # Time is up: as much as the kernel takes at once is said all the same.
            await self._refuse(x, pool, Fault(Side.BALANCER, Reason.STOPPING))
            raise
        backend = upstream.backend
        is_reusable = False
        try:
            x.fault = None  # of earlier attempts
            x.status = response.status
            service.view.judge(backend, response.status)
            if response.status == 101:
                await self._tunnel(x, response, upstream)
                return False
            goes_on, is_reusable = await self._answer(x, response, upstream)
            if pool.blame.present:
                service.view.acquit(pool, x.fingerprint)
            self._lingers = not goes_on and (x.upload is not None or (wire.readable and not wire.is_drained()))
            return goes_on
        except Fault as fault:
            x.fault = fault = service.view.in_the_end(fault)
            if fault.side is Side.BACKEND:
                service.view.observe(backend, fault)
            if fault.reason is Reason.BAD_RESPONSE and fault.moment is Moment.AFTER_SEND:
                return await self._refuse(x, pool, fault)  # found out before a byte of it had been passed on
            self._cut(x, fault)
            await service.forwarder.learn_end(backend, fault)
            return False
        except BaseException:
            wire.reset_on_close()  # cancelled in the middle: the end must not look like the response's own
            raise
        finally:
            wire.watcher = None
            if is_reusable:
                upstream.park()
            else:
                upstream.close()
            if x.upload is not None:
                x.received += x.upload.received
            # Counted before the claim ends: with the last claim of a drained backend its row may be given away.
            seconds = x.count(service.cells, pool.base)
            service.view.release(backend)
            if service.access is not None:
                x.log(service.access, self.address, seconds)

    async def _answer(self, x: Exchange, response: ResponseHead, upstream: Upstream) -> tuple[bool, bool]:
        """Pass the response on; (whether the client's connection goes on, whether the backend's may be used again)."""
        wire = self.wire
        head = x.head
        view = self._service.view
        length, timeout = response.length, view.picture.body_timeout
        upload_done = x.upload is None or x.upload.is_done
        goes_on = head.keep_alive and upload_done and not view.stopping
        is_chunked = length < 0 and head.minor == 1
        if length < 0:
            x.endless = ending_of(response, upstream)
        if length < 0 and not is_chunked:
            goes_on = False  # HTTP/1.0 knows the end of such a body only by the end of the connection
        start = response_start(x, response, self._service, self.hsts)
        if is_chunked:
            start += b"Transfer-Encoding: chunked\r\n"
        if not goes_on:
            start += b"Connection: close\r\n\r\n"
        elif head.minor:
            start += b"\r\n"
        else:
            start += b"Connection: keep-alive\r\n\r\n"
        if length >= 0:
            body = upstream.buffer
            if len(body) >= length:
                message = start + (body if len(body) == length else body[:length])
                sent = wire.send_now(message) if goes_on else wire.send_last(message)
                if sent < len(message):
                    await wire.send_rest(message, sent)
                x.sent = length
                is_clean = len(body) == length
            else:
                await relay.relay_length(x, start, upstream, wire, length, self._service.pipes, timeout)
                is_clean = True
        elif length == CHUNKED:
            await relay.relay_chunks(x, start, upstream, wire, is_chunked, self._service.pace, timeout)
            is_clean = not upstream.buffer
        else:
            await relay.relay_until_close(x, start, upstream, wire, is_chunked, timeout)
            is_clean = False
        if x.upload is not None and x.upload.is_done and x.upload.rest:
            self._buffer = x.upload.rest
        return goes_on, is_clean and response.keep_alive and (x.upload is None or x.upload.is_done)

    async def _send_interim(self, response: ResponseHead) -> None:
        fields = downstream_fields(response)
        await self.wire.send(b"HTTP/1.1 %d %s\r\n%s\r\n" % (response.status, response.reason, fields))

    async def _tunnel(self, x: Exchange, response: ResponseHead, upstream: Upstream) -> None:
        start = response_start(x, response, self._service)
        await self.wire.send(start + b"Connection: Upgrade\r\nUpgrade: %s\r\n\r\n" % response.upgrade)
        first, self._buffer = self._buffer, b""
        await Tunnel(x, self.wire, upstream, response.upgrade).run(first)

    async def _refuse(self, x: Exchange, pool: Pool | None, fault: Fault | None) -> bool:
        """Answer a request ourselves (`compose.own_answer`), if the client is still there; whether the connection goes on."""
        service = self._service
        x.fault = fault = fault and service.view.in_the_end(fault)
        has_claim = x.status != 0  # the answer of a backend that turned out to be broken; its owner counts it
        x.status = status_of(fault) if fault is not None else x.own.status if x.own is not None else 0
        head = x.head
        goes_on = False
        if not has_claim:
            seconds = x.count(service.cells, service.view.row_of(pool))
            if x.backend is not None:
                service.view.release(x.backend)
        if fault is None or fault.reason is not Reason.CLIENT_GONE:
            x.request_id = x.request_id or own_request_id(head, service, self.is_trusted)
            has_body_to_come = head.length != 0 and not (x.upload is None and x.body)
            goes_on = head.keep_alive and not has_body_to_come and not service.view.stopping
            goes_on = goes_on and (fault is None or not closes(fault))
            message = own_answer(x, service, pool, fault, not goes_on, self.hsts)
            try:
                await self.wire.send(message)
            except Fault:
                goes_on = False
            self._lingers = not goes_on
        if not has_claim and service.access is not None:
            x.log(service.access, self.address, seconds)
        x.let_go()
        return goes_on

    async def _refuse_unread(self, fault: Fault) -> None:
        """Answer what could not be read as a request."""
        if fault.reason is not Reason.CLIENT_GONE:
            await self._refuse(Exchange(_NOTHING, self.started or monotonic()), None, fault)

    def _cut(self, x: Exchange, fault: Fault) -> None:
        """End a response that was begun and cannot be finished, so that nobody takes it for whole."""
        if fault.side is Side.CLIENT:
            x.status = status_of(fault)
        if fault.reason is not Reason.DRAINING:  # a stream of events has no whole
            self.wire.reset_on_close()
