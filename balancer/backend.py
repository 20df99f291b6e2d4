"""What a Python backend may import to speak with the balancer: standard library only, and nothing happens without one.

    from balancer import backend

    backend.ready()                          # with `ready.when = "message"`: requests may come
    backend.broadcast({"cache": "stale"})    # to every other backend of the pool
    for message in backend.messages():       # or `async for`, under asyncio and trio
        backend.reply(message, {"users": 3}) # to who asks, with `balancer send --wait`; to nobody else
    for connection in backend.connections(): # with `mode = "pass"`: accepted sockets; or `async for`
        ...

Every function may be called from any thread, and none waits for long: what cannot be sent now is sent with the next call.
"""

import json
import os
import select
import socket
import struct
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

__all__ = [
    "Connections", "Messages", "broadcast", "connections", "heartbeat", "messages", "ready", "reply", "send", "stopping",
]  # fmt: skip

_PATIENCE = 0.1  # seconds that a call may wait for the balancer to read
_MAX_LINE = 1024 * 1024  # what the balancer takes
_READ = 64 * 1024
_MOST_DESCRIPTORS = 16  # with one line
_INT = struct.Struct("i")


def ready() -> bool:
    """This process can take requests. False: not said, as there is no balancer or it does not listen."""
    return _LINK.say({"type": "ready"})


def stopping() -> bool:
    """This process is about to leave: no new requests, please, and a successor."""
    return _LINK.say({"type": "stopping"})


def heartbeat() -> bool:
    """This process is alive."""
    return _LINK.say({"type": "heartbeat"})


def send(to: str, data: Any) -> bool:
    """Send a JSON value to one backend of the pool, such as "web-1"; it arrives as {"type": "message", "from", "data"}.

    Raises TypeError or ValueError when `data` is no JSON value.
    """
    return _LINK.say({"type": "send", "to": to, "data": data})


def broadcast(data: Any) -> bool:
    """Send a JSON value to every other backend of the pool; it arrives as {"type": "broadcast", "from", "data"}.

    Raises TypeError or ValueError when `data` is no JSON value.
    """
    return _LINK.say({"type": "broadcast", "data": data})


def reply(to: Any, data: Any = None, *, error: Any = None) -> bool:
    """Answer a message {"type": "ask", "id", "data"}, once; error: instead of data, why that cannot be done.

    False also when the message asks nothing. Raises TypeError or ValueError when `data` is no JSON value.
    """
    if not isinstance(to, dict) or to.get("type") != "ask":
        return False
    said = {"data": data} if error is None else {"error": error}
    return _LINK.say({"type": "reply", "id": to.get("id"), **said})


def messages() -> "Messages":
    """What the balancer and other backends send, as it comes; ends when the balancer does, or at once without one.

    One reader per process; a second one takes what the first does not.
    """
    return Messages(_LINK)


def connections(heard: Callable[[Any], object] | None = None) -> "Connections":
    """The connections of clients that the balancer passes to this process (`mode = "pass"`), as blocking sockets, as they come.

    heard: called with each message that comes meanwhile; without it they are dropped, as one reader reads the channel: use this or
    `messages`, not both.
    """
    return Connections(_LINK, heard)


class Messages:
    """Iterate in a thread (`for`), or under asyncio or trio (`async for`)."""

    def __init__(self, link: "_Link") -> None:
        self._link = link

    def __iter__(self) -> "Messages":
        return self

    def __aiter__(self) -> "Messages":
        return self

    def __next__(self) -> Any:
        while True:
            found, value = self._link.take()
            if found:
                return value
            if self._link.sock is None:
                raise StopIteration
            _wait(self._link.sock, select.POLLIN, None)

    async def __anext__(self) -> Any:
        while True:
            found, value = self._link.take()
            if found:
                return value
            if self._link.sock is None:
                raise StopAsyncIteration
            await _readable(self._link.sock)


class Connections:
    """Iterate in a thread (`for`), or under asyncio or trio (`async for`)."""

    def __init__(self, link: "_Link", heard: Callable[[Any], object] | None) -> None:
        self._link = link
        self._heard = heard

    def __iter__(self) -> "Connections":
        return self

    def __aiter__(self) -> "Connections":
        return self

    def __next__(self) -> socket.socket:
        while True:
            connection = self._take()
            if connection is not None:
                return connection
            if self._link.sock is None:
                raise StopIteration
            _wait(self._link.sock, select.POLLIN, None)

    async def __anext__(self) -> socket.socket:
        while True:
            connection = self._take()
            if connection is not None:
                return connection
            if self._link.sock is None:
                raise StopAsyncIteration
            await _readable(self._link.sock)

    def _take(self) -> socket.socket | None:
        while True:
            found, value = self._link.take()
            if not found:
                return self._link.connection()
            if self._heard is not None:
                self._heard(value)


class _Link:
    """This process's end of the channel; `sock` is None when there is none, or none any more."""

    def __init__(self, fd: int | None) -> None:
        self.sock: socket.socket | None = None
        self._lock = threading.Lock()
        self._unsent = b""
        self._partial = b""
        self._lines: deque[bytes] = deque()
        self._descriptors: deque[int] = deque()
        self._connections: deque[socket.socket] = deque()
        if fd is not None:
            try:
                self.sock = socket.socket(fileno=fd)
            except OSError:
                return
            # Ours alone: a child of this process would keep the channel open after our end.
            self.sock.set_inheritable(False)

    def say(self, value: Any) -> bool:
        line = json.dumps(value, separators=(",", ":"), allow_nan=False).encode() + b"\n"
        with self._lock:
            if self.sock is None or len(line) > _MAX_LINE or len(self._unsent) > _MAX_LINE:
                return False
            self._unsent += line
            limit = time.monotonic() + _PATIENCE
            while self._unsent and self.sock is not None:
                try:
                    # Not a non-blocking socket: forked processes share that setting.
                    self._unsent = self._unsent[self.sock.send(self._unsent, socket.MSG_DONTWAIT) :]
                except BlockingIOError:
                    if not _wait(self.sock, select.POLLOUT, limit - time.monotonic()):
                        break
                except OSError:
                    self.sock = None
            return self.sock is not None

    def take(self) -> tuple[bool, Any]:
        """(True, the next message), or (False, None) when none has come."""
        with self._lock:
            while True:
                while self._lines:
                    try:
                        value = json.loads(self._lines.popleft())
                    except ValueError:
                        continue
                    if not isinstance(value, dict) or value.get("cmd") != "NODE_HANDLE":
                        return True, value
                    if self._descriptors:
                        connection = socket.socket(fileno=self._descriptors.popleft())
                        connection.setblocking(True)
                        self._connections.append(connection)
                if self.sock is None or self._connections:
                    return False, None
                try:
                    data = self._receive(self.sock)
                except BlockingIOError:
                    return False, None
                except OSError:
                    data = b""
                if not data:
                    self.sock = None
                *lines, self._partial = (self._partial + data).split(b"\n")
                self._lines.extend(lines)

    def _receive(self, sock: socket.socket) -> bytes:
        # Not socket.recv_fds: it ignores its flags (Python 3.11).
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        data, ancillary, _, _ = sock.recvmsg(_READ, socket.CMSG_SPACE(_MOST_DESCRIPTORS * _INT.size), flags)
        for level, kind, value in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                self._descriptors.extend(fd for (fd,) in _INT.iter_unpack(value[: len(value) // _INT.size * _INT.size]))
        return data

    def connection(self) -> socket.socket | None:
        """The next that was passed; None when there is none. To be asked after `take` has found no message."""
        with self._lock:
            return self._connections.popleft() if self._connections else None


def _wait(sock: socket.socket, event: int, seconds: float | None) -> bool:
    poll = select.poll()
    poll.register(sock, event)
    return bool(poll.poll(None if seconds is None else max(0, int(seconds * 1000))))


async def _readable(sock: socket.socket) -> None:
    trio = sys.modules.get("trio")
    if trio is not None and trio.lowlevel.in_trio_run():
        await trio.lowlevel.wait_readable(sock)
        return
    import asyncio  # an asyncio program has it already, and others need not wait for it

    loop = asyncio.get_running_loop()
    # A descriptor of its own: the loop allows one reader for each.
    copy = sock.dup()
    came = asyncio.Event()
    loop.add_reader(copy, came.set)
    try:
        await came.wait()
    finally:
        loop.remove_reader(copy)
        copy.close()


def _open() -> _Link:
    if "BALANCER_BACKEND" not in os.environ:
        return _Link(None)
    # Taken out, as Node.js does it: a Node.js child of this process would take the channel for its own.
    given = os.environ.pop("NODE_CHANNEL_FD", "")
    return _Link(int(given) if given.isdigit() else None)


_LINK = _open()
