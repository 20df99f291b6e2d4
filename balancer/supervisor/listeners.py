"""The sockets on which clients are served: bound once, here, and kept for as long as the balancer runs.

One per proxy slot and listener with SO_REUSEPORT: the kernel spreads connections evenly, wakes one process, and the queue of
a dead proxy waits for its successor. A Unix socket cannot be bound twice, so there all proxies share one.
"""

import errno
import os
import socket
import stat
from collections.abc import Collection, Mapping

from balancer.errors import BalancerError
from balancer.settings.address import Address
from balancer.settings.model import Listen


class CannotBind(BalancerError):
    """An address cannot be listened on; the text says which and why."""


class ListenerSockets:
    """All listening sockets: `of(proxy slot)` gives those of one proxy, by listener name."""

    def __init__(
        self, listen: Mapping[str, Listen], proxies: int, shared: Collection[str] = (), *, is_open: bool = True
    ) -> None:
        """Bind everything, or nothing. shared: listeners on which backends themselves accept. Raises CannotBind.

        is_open: listen, too; else clients are refused until these are taken over by others (`take_over`).
        """
        self._listen = listen
        self._is_open = is_open
        self._shared = shared
        self._sockets: dict[str, list[socket.socket]] = {}
        self._paths: list[tuple[str, int]] = []
        self.addresses: dict[str, str] = {}  # as bound: port 0 is a number by now
        try:
            for name, listener in listen.items():
                self._sockets[name] = []
                self._bind(name, listener, 1 if name in shared else proxies)
                if name in shared:
                    # As a service manager hands them over: a backend that accepts in a thread would fail otherwise. Only now: all
                    # that have it share this setting, and event loops change it for all.
                    self._sockets[name][0].setblocking(True)
        except BaseException:
            self.close()
            raise

    def of(self, proxy: int) -> dict[str, socket.socket]:
        """The sockets of one proxy slot, by listener name."""
        return {
            name: sockets[proxy % len(sockets)] for name, sockets in self._sockets.items() if name not in self._shared
        }

    def take_over(self, others: "ListenerSockets") -> None:
        """Have these as well, and listen on them; slots that have given up stay so."""
        own = [sockets for sockets in self._sockets.values() if len(sockets) > 1]
        for name, sockets in others._sockets.items():
            for proxy, sock in enumerate(sockets):
                if len(sockets) > 1 and any(beside[proxy].fileno() < 0 for beside in own):
                    sock.close()
                else:
                    sock.listen(others._listen[name].backlog)
        self._listen = {**self._listen, **others._listen}
        self._sockets |= others._sockets
        self._paths += others._paths
        self.addresses |= others.addresses

    def shared(self, listener: str) -> socket.socket:
        """The one socket of a listener on which backends accept."""
        return self._sockets[listener][0]

    def place(self, listener: str) -> tuple[str, int]:
        """Where a listener is bound: address and port, or ("unix:/path", 0)."""
        sock = self._sockets[listener][0]
        name = sock.getsockname()
        return (f"unix:{name}", 0) if sock.family is socket.AF_UNIX else (name[0], name[1])

    def give_up(self, proxy: int) -> None:
        """Stop listening for one proxy slot; the kernel spreads new connections over the others."""
        for sockets in self._sockets.values():
            if len(sockets) > 1:
                sockets[proxy].close()

    def restore(self, proxy: int) -> None:
        """Listen again for a slot that gave up. Raises CannotBind."""
        for name, sockets in self._sockets.items():
            if len(sockets) > 1 and sockets[proxy].fileno() < 0:
                other = next((sock for sock in sockets if sock.fileno() >= 0), None)
                if other is None:
                    raise CannotBind(f"listen.{name}: nothing is left to listen beside")
                try:
                    sockets[proxy] = _tcp(other.family, other.getsockname(), self._listen[name].backlog)
                except OSError as error:
                    raise CannotBind(f"listen.{name}: cannot listen again: {_why(error)}") from error

    def close(self) -> None:
        """Stop listening."""
        for sockets in self._sockets.values():
            for sock in sockets:
                sock.close()
        for path, inode in self._paths:
            try:
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            except OSError:
                pass

    def _bind(self, name: str, listener: Listen, proxies: int) -> None:
        address, backlog = listener.address, listener.backlog if self._is_open else 0
        try:
            if address.is_unix:
                self._sockets[name].append(_unix(address.path, backlog))
                self._paths.append((address.path, os.stat(address.path).st_ino))
                self.addresses[name] = str(address)
                return
            for family, bound in _resolved(address):
                _refuse_if_taken(family, bound)
                for _ in range(proxies):
                    sock = _tcp(family, bound, backlog)
                    self._sockets[name].append(sock)
                    bound = (bound[0], sock.getsockname()[1], *bound[2:])  # port 0: the same for all
                self.addresses[name] = str(Address(address.host, bound[1]))
                return  # the first address of a name: a second socket per slot has no place in the proxy's start
        except OSError as error:
            raise CannotBind(f"listen.{name}: cannot listen on {address}: {_why(error)}") from error


def _resolved(address: Address) -> list[tuple[int, tuple[str, int]]]:
    found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return [(family, sockaddr) for family, _, _, _, sockaddr in found]  # type: ignore[misc]


def _refuse_if_taken(family: int, address: tuple[str, int]) -> None:
    """SO_REUSEPORT lets all sockets of one user share a port, another balancer's too: so try without it first."""
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _only_v6(trial, family)
        trial.bind(address)


def _tcp(family: int, address: tuple[str, int], backlog: int) -> socket.socket:
    """backlog 0: bound only, and so below."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as in `ports`, for backends that accept themselves
        _only_v6(sock, family)
        sock.bind(address)
        if backlog:
            sock.listen(backlog)
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise


def _only_v6(sock: socket.socket, family: int) -> None:
    # As nginx: "[::]" is IPv6 alone, so that "0.0.0.0" may stand beside it as a listener of its own.
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)


def _unix(path: str, backlog: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        try:
            sock.bind(path)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not stat.S_ISSOCK(os.stat(path).st_mode) or _is_answered(path):
                raise
            # Left behind by a balancer that was killed.
            os.unlink(path)
            sock.bind(path)
        # Who may connect is decided by the folder, as with a TCP port by the firewall.
        os.chmod(path, 0o666)
        if backlog:
            sock.listen(backlog)
        sock.setblocking(False)
        return sock
    except BaseException:
        sock.close()
        raise


def _is_answered(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        return sock.connect_ex(path) not in (errno.ECONNREFUSED, errno.ENOENT)


def _why(error: OSError) -> str:
    match error.errno:
        case errno.EADDRINUSE:
            return "the address is already in use"
        case errno.EACCES:
            return "permission denied (ports below 1024 need root or CAP_NET_BIND_SERVICE)"
        case errno.EADDRNOTAVAIL:
            return "no such address on this machine"
        case _:
            return error.strerror or str(error)
