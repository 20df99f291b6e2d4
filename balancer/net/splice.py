"""Bytes from one socket to another without passing through Python: `splice(2)` over a kept pipe.

Only for bodies of known length between plain sockets. `SO_RCVLOWAT` lets the kernel wake us for a quarter of a megabyte instead
of for each segment, as long as the sender keeps up; `proxy/sweep` lowers it when one does not, so that a slow stream is not held back.
"""

import fcntl
import os
import socket
from collections.abc import Callable
from time import monotonic
from typing import Final

import trio

from balancer.net.unsent import heed
from balancer.net.wire import Wire

PIPE_SIZE: Final = 1024 * 1024  # the kernel's default ceiling for an unprivileged pipe
LOW_WATER: Final = 256 * 1024
_FLAGS: Final = os.SPLICE_F_MOVE | os.SPLICE_F_NONBLOCK if hasattr(os, "SPLICE_F_MOVE") else 0x01 | 0x02
_KEPT: Final = 16  # idle pipes kept: 16 MiB of the 64 MiB that one user may have in enlarged pipes
_TURNS: Final = 2  # pieces moved before other tasks get a turn: a quarter of a millisecond each


class Pipes:
    """Empty pipes, kept for the next body."""

    def __init__(self) -> None:
        self._idle: list[tuple[int, int]] = []

    def take(self) -> tuple[int, int] | None:
        """(read end, write end) of an empty pipe; None when out of descriptors: then bytes are copied instead."""
        if self._idle:
            return self._idle.pop()
        try:
            pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            fcntl.fcntl(pipe[1], fcntl.F_SETPIPE_SZ, PIPE_SIZE)
        except OSError:
            pass  # over the user's quota: the default 64 KiB works too
        return pipe

    def give_back(self, pipe: tuple[int, int], is_empty: bool) -> None:
        """Keep it if it is empty, else close it."""
        if is_empty and len(self._idle) < _KEPT:
            self._idle.append(pipe)
        else:
            os.close(pipe[0])
            os.close(pipe[1])

    def close(self) -> None:
        """Close all idle ones."""
        while self._idle:
            self.give_back(self._idle.pop(), is_empty=False)


class Transfer:
    """Bytes on their way from one wire to another through a pipe. moved: how many have left, also when it failed."""

    __slots__ = ("_on_piece", "_pipe", "_pipes", "_source", "_target", "moved")

    def __init__(
        self,
        source: Wire,
        target: Wire,
        pipes: Pipes,
        pipe: tuple[int, int],
        on_piece: Callable[[], None] = lambda: None,
    ) -> None:
        """pipe: taken from `pipes`, and given back when it is done; on_piece: called with each piece that came."""
        self._on_piece = on_piece
        self.moved = 0
        self._source = source
        self._target = target
        self._pipes = pipes
        self._pipe = pipe

    async def run(self, count: int, timeout: float) -> bool:
        """Move `count` bytes; False if the source ended before.

        Raises the Fault of the wire that broke or stood still for `timeout` seconds (`source.late`, `target.late_write`).
        """
        source, target = self._source, self._target
        read_end, write_end = self._pipe
        left = count
        in_pipe = 0
        turns = 0
        try:
            while left:
                if left > LOW_WATER * 2:
                    if not source.lowat:
                        raise_low_water(source)
                elif source.lowat:
                    lower_low_water(source)
                try:
                    most = LOW_WATER if target.is_bounded else PIPE_SIZE
                    in_pipe = os.splice(source.fd, write_end, min(left, most), flags=_FLAGS)
                except BlockingIOError:
                    source.readable = False
                    source.read_deadline = monotonic() + timeout
                    await source.wait_readable()
                    continue
                except OSError as error:
                    raise source.fault(error) from None
                if not in_pipe:
                    return False
                left -= in_pipe
                self._on_piece()
                while in_pipe:
                    try:
                        sent = os.splice(read_end, target.fd, in_pipe, flags=_FLAGS)
                    except BlockingIOError:
                        target.writable = False
                        await target.wait_writable()
                    except OSError as error:
                        raise target.fault(error) from None
                    else:
                        in_pipe -= sent
                        self.moved += sent
                heed(target, self.moved)
                turns += 1
                if turns % _TURNS == 0:
                    await trio.lowlevel.checkpoint()
            return True
        finally:
            if source.lowat and source.fd >= 0:
                lower_low_water(source)
            self._pipes.give_back(self._pipe, is_empty=not in_pipe)


def raise_low_water(wire: Wire) -> None:
    """Have the kernel call it readable only once a good piece has come."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER)
    wire.lowat = True


def lower_low_water(wire: Wire) -> None:
    """Have the kernel call it readable at the first byte again; reports at once what is there already."""
    wire.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    wire.lowat = False
