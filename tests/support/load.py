"""Steady load that counts failures, for tests that may not lose a request.

    async with load(balancer.port, rate=300) as traffic:
        await traffic.more(200)          # so many answers from now on
        …
    assert not traffic.failures, traffic.failures

Half of the clients keep their connection, half make one for each request; each alternates GET / and POST /echo, whose
answer must be the body that was sent.
"""

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import h11
import trio

CLIENTS = 8  # unless told otherwise; each has one request in flight at most


class Failure(Exception):
    """One request did not get its answer; the text is the reason that is counted."""


class Traffic:
    """What has happened so far.

    answers: by status; failures: by reason; backends: answers to GET by (backend, generation); slowest: seconds.
    """

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.failures: Counter[str] = Counter()
        self.backends: Counter[tuple[str, str]] = Counter()
        self.slowest = 0.0
        self._changed = trio.Event()

    @property
    def done(self) -> int:
        """Requests that have ended, well or not."""
        return self.answers.total() + self.failures.total()

    async def more(self, count: int, seconds: float = 20.0) -> None:
        """Wait until so many more requests than now have ended. trio.TooSlowError after `seconds`."""
        goal = self.done + count
        with trio.fail_after(seconds):
            while self.done < goal:
                await self._changed.wait()

    def answered(self, status: int, seconds: float) -> None:
        """Count an answer; anything but 2xx is a failure too."""
        self.slowest = max(self.slowest, seconds)
        if 200 <= status < 300:
            self.answers[status] += 1
        else:
            self.failures[f"status {status}"] += 1
        self._tell()

    def failed(self, reason: str) -> None:
        """Count a request without an answer."""
        self.failures[reason] += 1
        self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, trio.Event()
        changed.set()


class Client:
    """One client with at most one connection."""

    def __init__(self, traffic: Traffic, host: str, port: int, keep: bool, timeout: float) -> None:
        self.traffic = traffic
        self.address = (host, port)
        self.keep = keep
        self.timeout = timeout
        self.stream: trio.SocketStream | None = None
        self.http = h11.Connection(h11.CLIENT)
        self.exchanges = 0  # on the present connection

    async def run(self, pause: float, offset: float, stopping: trio.Event) -> None:
        """A request every `pause` seconds until told to stop; the one in progress is finished first."""
        started = trio.current_time() + offset
        number = 0
        while not stopping.is_set():
            with trio.move_on_at(started + number * pause):
                await stopping.wait()
            if not stopping.is_set():
                await self.request(number)
            number += 1
        await self.close()

    async def request(self, number: int) -> None:
        """One GET or POST, counted."""
        body = b"%d" % number * 200 if number % 2 else b""
        started = trio.current_time()
        try:
            with trio.fail_after(self.timeout):
                status, answer = await self.exchange(body)
                if body and answer != body and status == 200:
                    raise Failure("the echo differs")
                if not body and status == 200 and answer.startswith(b"{"):
                    told = json.loads(answer)
                    self.traffic.backends[told["backend"], told["generation"]] += 1
            self.traffic.answered(status, trio.current_time() - started)
        except (OSError, trio.BrokenResourceError, h11.ProtocolError, Failure, trio.TooSlowError) as error:
            where = "on a kept connection" if self.exchanges else "on a new connection"
            self.traffic.failed(f"{why(error)} {where}")
            await self.close()

    async def exchange(self, body: bytes) -> tuple[int, bytes]:
        """Send a request and read its whole answer: (status, body)."""
        if self.stream is None:
            self.stream = await trio.open_tcp_stream(*self.address)
            self.http = h11.Connection(h11.CLIENT)
            self.exchanges = 0
        fields = [("Host", "load.test"), ("User-Agent", "load")]
        if not self.keep:
            fields.append(("Connection", "close"))
        if body:
            fields.append(("Content-Length", str(len(body))))
        request = h11.Request(method="POST" if body else "GET", target="/echo" if body else "/", headers=fields)
        parts = [
            self.http.send(request),
            self.http.send(h11.Data(body)) if body else b"",
            self.http.send(h11.EndOfMessage()),
        ]
        await self.stream.send_all(b"".join(part or b"" for part in parts))
        status, answer = await self.read_answer(self.stream)
        self.exchanges += 1
        if self.http.our_state is h11.MUST_CLOSE or self.http.their_state is not h11.DONE:
            await self.close()
        else:
            self.http.start_next_cycle()
        return status, answer

    async def read_answer(self, stream: trio.SocketStream) -> tuple[int, bytes]:
        """Read until the end of the message."""
        status = 0
        body = bytearray()
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                data = await stream.receive_some(65536)
                if not data and not status:
                    raise Failure("closed without an answer")
                self.http.receive_data(data)
            elif isinstance(event, h11.Response):
                status = event.status_code
            elif isinstance(event, h11.Data):
                body += event.data
            elif isinstance(event, h11.EndOfMessage):
                return status, bytes(body)

    async def close(self) -> None:
        """Close the connection, if there is one."""
        stream, self.stream = self.stream, None
        self.exchanges = 0
        if stream is not None:
            await stream.aclose()


def why(error: BaseException) -> str:
    """The name and text of what is at the bottom of it: trio wraps refused connections in a group."""
    while (inner := error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__) is not None:
        error = inner
    return f"{type(error).__name__}: {error}"


@asynccontextmanager
async def load(
    port: int, host: str = "127.0.0.1", *, rate: float = 200.0, clients: int = CLIENTS, timeout: float = 10.0
) -> AsyncIterator[Traffic]:
    """Send `rate` requests per second until the block ends; requests in progress are finished, then it is left."""
    traffic = Traffic()
    stopping = trio.Event()
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        for index in range(clients):
            client = Client(traffic, host, port, index % 2 == 0, timeout)
            nursery.start_soon(client.run, clients / rate, index / rate, stopping)
        try:
            yield traffic
        except Exception as error:
            failure = error  # raised below: the nursery would wrap it in a group
        stopping.set()
    if failure is not None:
        raise failure
