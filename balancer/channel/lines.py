"""One JSON value per line, both ways, over a Unix stream socket: supervisor to proxy, supervisor to backend.

The form is that of Node.js's own child channel (`NODE_CHANNEL_SERIALIZATION_MODE=json`), so a Node.js backend needs no library.
The other end is never trusted: what is not JSON or too long is counted and skipped, and an end that does not read costs
a bounded queue. A line may carry file descriptors (SCM_RIGHTS, unix(7)); those that the other end sends are taken only where they
are expected, else the kernel closes them.
"""

import json
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final, NoReturn

import trio

from balancer.channel.descriptors import receive, send
from balancer.errors import ChannelClosed

MAX_LINE: Final = 1024 * 1024
MAX_QUEUED: Final = 4 * 1024 * 1024
# Up to this size the kernel takes a line whole or not at all, so that several processes may write lines to one socket (net/unix/af_unix.c:
# one buffer holds 32 KiB and more).
WHOLE_LINE: Final = 32 * 1024
_READ = 64 * 1024
_MOST_DESCRIPTORS: Final = 16  # with one line


class Channel:
    """One end of a channel.

    sock: a connected Unix stream socket, made non-blocking here and owned from here on; max_line: bytes of one line, either way;
    max_sent: of one that is sent, where that is less; max_queued: bytes that may wait for an end that does not read; takes_descriptors:
    those that come are put into `descriptors`, in order, and belong to whoever takes them from there; on_garbage: called for each line
    that is skipped. One task receives, one task runs `run`; anybody sends.
    """

    def __init__(
        self,
        sock: socket.socket,
        *,
        max_line: int = MAX_LINE,
        max_sent: int = 0,
        max_queued: int = MAX_QUEUED,
        takes_descriptors: bool = False,
        on_garbage: Callable[[], object] = lambda: None,
    ) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._max_line = max_line
        self._max_sent = max_sent or max_line
        self._max_queued = max_queued
        self._takes_descriptors = takes_descriptors
        self._on_garbage = on_garbage
        self._queue: deque[tuple[bytes | memoryview, Sequence[int]]] = deque()
        self._queued = 0
        self._wake = trio.Event()
        self._closed = False
        self._broken = False
        self._lines: deque[bytes] = deque()
        self._partial = bytearray()
        self._skipping = False
        self.descriptors: deque[int] = deque()
        self.sent = 0
        self.received = 0
        self.dropped = 0
        self.garbage = 0

    @property
    def queued(self) -> int:
        """Bytes that wait for the other end to read."""
        return self._queued

    @property
    def is_open(self) -> bool:
        """Whether neither end is known to be gone."""
        return not (self._closed or self._broken)

    def fileno(self) -> int:
        """The socket's; -1 once it is closed."""
        return self._sock.fileno()

    def send(self, value: Any, descriptors: Sequence[int] = ()) -> bool:
        """Send one value without ever waiting; what the socket does not take at once `run` sends later.

        descriptors: go with it, and stay open here. False: dropped and counted, because the queue is full, the line too long, or the
        other end gone. Raises TypeError or ValueError if `value` is no JSON value.
        """
        line = json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        if self._closed or self._broken or len(line) > self._max_sent or self._queued + len(line) > self._max_queued:
            self.dropped += 1
            return False
        rest: bytes | memoryview = line
        if not self._queue:
            taken = self._write(line, descriptors)
            if self._broken:
                self.dropped += 1
                return False
            rest = memoryview(line)[taken:]
            if taken:
                descriptors = ()
        if rest:
            # Copies: who sends may close its own long before the other end reads.
            self._queue.append((rest, [os.dup(descriptor) for descriptor in descriptors]))
            self._queued += len(rest)
            self._wake.set()
        self.sent += 1
        return True

    async def receive(self) -> Any:
        """The next value. Raises ChannelClosed when the other end, or this one, has closed."""
        while True:
            # A checkpoint for each value: a backend that floods its channel must not hold up the loop.
            await trio.lowlevel.checkpoint()
            while not self._lines:
                await self._fill()
            try:
                value = json.loads(self._lines.popleft(), parse_constant=_refuse)
            except (ValueError, RecursionError):
                self._skip()
                continue
            self.received += 1
            return value

    async def run(self) -> None:
        """Send what is queued, whenever the other end reads; ends when the channel is closed at either end."""
        while not self._closed and not self._broken:
            if not self._queue:
                self._wake = trio.Event()
                await self._wake.wait()
                continue
            try:
                await trio.lowlevel.wait_writable(self._sock)
            except trio.ClosedResourceError:
                return
            self._flush()

    def close(self) -> None:
        """Close this end; whoever waits on it is told. More than once is harmless."""
        if self._closed:
            return
        self._closed = True
        self._wake.set()
        self._forget_queue()
        while self.descriptors:
            os.close(self.descriptors.popleft())
        trio.lowlevel.notify_closing(self._sock)
        self._sock.close()

    def _forget_queue(self) -> None:
        for _, descriptors in self._queue:
            _close(descriptors)
        self._queue.clear()
        self._queued = 0

    def _write(self, data: bytes | memoryview, descriptors: Sequence[int]) -> int:
        try:
            if descriptors:
                return send(self._sock, data, descriptors)
            return self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            # The reader meets the same end as EOF or reset: one place reports it.
            self._broken = True
            self._forget_queue()
            self._wake.set()
            return 0

    def _flush(self) -> None:
        while self._queue:
            head, descriptors = self._queue[0]
            taken = self._write(head, descriptors)
            if self._broken:
                return
            self._queued -= taken
            if taken:
                # They went with the first byte.
                _close(descriptors)
                descriptors = ()
            if taken < len(head):
                self._queue[0] = memoryview(head)[taken:], descriptors
                return
            self._queue.popleft()

    async def _fill(self) -> None:
        """Read once and cut what came into lines."""
        while True:
            if self._closed:
                raise ChannelClosed("this end of the channel is closed")
            try:
                data = self._read()
                break
            except (BlockingIOError, InterruptedError):
                pass
            except OSError as error:
                raise ChannelClosed(f"channel broke off: {error.strerror}") from error
            try:
                await trio.lowlevel.wait_readable(self._sock)
            except trio.ClosedResourceError:
                raise ChannelClosed("this end of the channel is closed") from None
        if not data:
            raise ChannelClosed("the other end closed the channel")
        self._cut(data)

    def _read(self) -> bytes:
        if not self._takes_descriptors:
            return self._sock.recv(_READ)
        data, descriptors = receive(self._sock, _READ, _MOST_DESCRIPTORS)
        self.descriptors.extend(descriptors)
        return data

    def _skip(self) -> None:
        self.garbage += 1
        self._on_garbage()

    def _cut(self, data: bytes) -> None:
        *whole, last = data.split(b"\n")
        for piece in whole:
            if self._skipping:
                self._skipping = False
            elif len(self._partial) + len(piece) > self._max_line:
                self._skip()
            else:
                self._lines.append(bytes(self._partial + piece) if self._partial else piece)
            self._partial.clear()
        if not self._skipping:
            self._partial += last
            if len(self._partial) > self._max_line:
                self._skip()
                self._skipping = True
                self._partial = bytearray()


def _close(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON value")
