"""Descriptors over a Unix socket (SCM_RIGHTS, unix(7)).

Not `socket.send_fds` and `recv_fds`: they take flags and ignore them (Python 3.11).
"""

import array
import socket
from collections.abc import Sequence
from typing import Final

_SIZE: Final = array.array("i").itemsize


def send(sock: socket.socket, data: bytes | memoryview, descriptors: Sequence[int], flags: int = 0) -> int:
    """Send `data` and the descriptors, which go with its first byte; how many bytes were taken. Raises OSError."""
    return sock.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))], flags)


def receive(sock: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """At most `size` bytes and what came with them, up to `most` descriptors, closed on exec. Raises OSError."""
    data, ancillary, _, _ = sock.recvmsg(size, socket.CMSG_SPACE(most * _SIZE), flags | socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(value[: len(value) // _SIZE * _SIZE])
    return data, list(descriptors)
