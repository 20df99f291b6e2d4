"""What the kernel has counted of a TCP connection (tcp_info in linux/tcp.h)."""

import socket
import sys
from typing import Any, Final

_DATA_SEGS_IN: Final = slice(152, 156)


def data_packets(sock: Any) -> int:
    """How many packets with data in them have come. sock: Python's own or trio's."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DATA_SEGS_IN.stop)
    return int.from_bytes(info[_DATA_SEGS_IN], sys.byteorder)
