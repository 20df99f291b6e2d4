"""The sockets of the admin API: the TCP address and the control socket, which shows whether a balancer runs with this file."""

import fcntl
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trio

from balancer.errors import BalancerError

BACKLOG = 64


class CannotListen(BalancerError):
    """The admin address or the control socket cannot be had; the text says which and why."""


def open_admin(host: str, port: int) -> list[trio.SocketListener]:
    """Listen on the admin address: one listener per address of the name, port 0 for any. Raises CannotListen.

    Plain: a name is looked up in the hosts file or by the system's resolver, once, at start.
    """
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    listeners: list[trio.SocketListener] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, kind, protocol, _, address in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            try:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                if family == socket.AF_INET6:
                    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                sock.bind(address)
                sock.listen(BACKLOG)
                listeners.append(trio.SocketListener(trio.socket.from_stdlib_socket(sock)))
            except BaseException:
                sock.close()
                raise
    except OSError as error:
        for listener in listeners:
            listener.socket.close()
        raise CannotListen(f"admin.address {shown}: {error.strerror or error}") from None
    return listeners


class ControlSocket:
    """A listening Unix socket, mode 0600, in the file system for as long as this balancer runs."""

    def __init__(self, path: Path) -> None:
        """Listen at `path`, in place of a socket that nobody answers on. Raises CannotListen, also when a balancer does."""
        self.path = path
        try:
            with _locked(path.parent):
                sock = _bind(path)
            self._identity = _identity(path)
        except OSError as error:
            raise CannotListen(f"control socket {path}: {error.strerror or error}") from None
        self.listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))

    def close(self) -> None:
        """Stop listening and remove the file, unless another balancer's stands there by now."""
        self.listener.socket.close()
        try:
            if _identity(self.path) == self._identity:
                self.path.unlink()
        except OSError:
            pass


def is_answered(path: Path) -> bool:
    """Whether a process accepts connections on this Unix socket. Raises OSError when that cannot be tried."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return False
        except BlockingIOError:
            return True  # its queue is full: somebody is there, and busy
    return True


def _bind(path: Path) -> socket.socket:
    if path.exists() or path.is_symlink():
        if not stat.S_ISSOCK(path.lstat().st_mode):
            raise CannotListen(f"control socket {path}: there is something else than a socket; move it away")
        if is_answered(path):
            raise CannotListen(f"a balancer is already running with this file (it answers on {path})")
        path.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # Not chmod after bind: for a moment anybody could have connected.
    umask = os.umask(0o177)
    try:
        sock.bind(str(path))
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    finally:
        os.umask(umask)
    return sock


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Between "nobody answers" and "now I do" no second balancer may come; the folder is the lock, so no file is left."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _identity(path: Path) -> tuple[int, int]:
    found = path.lstat()
    return found.st_dev, found.st_ino
