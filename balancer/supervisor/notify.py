"""The sd_notify protocol (systemd's `sd_notify(3)`), both ways: what backends tell us, what we tell a service manager."""

import os
import secrets
import socket
import struct
from collections.abc import Callable
from typing import Final

import trio

_LARGEST: Final = 4096
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid: struct ucred


class NotifySocket:
    """Where one backend process sends its datagrams; in the abstract namespace, so that nothing has to be removed."""

    def __init__(self) -> None:
        name = f"balancer/{secrets.token_hex(8)}"
        self.address = f"@{name}"  # as it stands in NOTIFY_SOCKET
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._sock.setblocking(False)
        self._sock.bind(f"\0{name}")

    async def listen(self, uid: int, heard: Callable[[str, str], None]) -> None:
        """Call `heard(name, value)` for each assignment sent by a process of this user, until cancelled.

        An abstract name can be read by anybody on the machine; the kernel's word on the sender's user cannot be forged.
        """
        while True:
            await trio.lowlevel.wait_readable(self._sock)
            try:
                data, ancillary, _, _ = self._sock.recvmsg(
                    _LARGEST, socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(64)
                )
            except (BlockingIOError, InterruptedError):
                continue
            allowed = False
            for level, kind, value in ancillary:
                if level == socket.SOL_SOCKET and kind == socket.SCM_CREDENTIALS:
                    allowed = _CREDENTIALS.unpack_from(value)[1] in (uid, 0)
                elif level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                    # sd_notify can carry descriptors (FDSTORE=1, BARRIER=1); closing them is the answer to a barrier.
                    for (fd,) in struct.iter_unpack("i", value[: len(value) // 4 * 4]):
                        os.close(fd)
            if allowed:
                for line in data.decode("utf-8", "replace").splitlines():
                    name, equals, text = line.partition("=")
                    if equals:
                        heard(name, text)

    def close(self) -> None:
        """No more datagrams."""
        self._sock.close()


def tell_service_manager(**assignments: str) -> None:
    """Send e.g. READY="1", STATUS="…" to the service manager that started us, if one did. A failure is nobody's harm."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address[:1] not in ("@", "/"):
        return
    target = "\0" + address[1:] if address[0] == "@" else address
    text = "\n".join(f"{name}={value}" for name, value in assignments.items())
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        try:
            sock.sendto(text.encode(), target)
        except OSError:
            pass
