"""Which port a new backend process gets: free now, of no other process, and not one that was given a moment ago."""

import errno
import socket
import time
from typing import Final

from balancer.errors import BalancerError

# As long as Linux keeps a closed connection in TIME_WAIT: a server without SO_REUSEADDR could not bind before.
REST: Final = 60.0
BACKLOG: Final = 4096  # connections that wait until a backend accepts; the kernel's net.core.somaxconn may lower it


class NoPort(BalancerError):
    """No port of the range is free."""


class Ports:
    """Hands out ports, for all pools together."""

    def __init__(self) -> None:
        self._held: set[int] = set()
        self._given_back: dict[int, float] = {}

    def listen(self, host: str, span: tuple[int, int] | None) -> socket.socket:
        """As `take`, but bound and listening, so that nobody can come first; `give_back` its port once it is closed."""
        for _ in range(100):
            port = self.take(host, span)
            try:
                family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
                sock = socket.socket(family, kind)
                try:
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    # What is accepted inherits it. A program that takes an inherited socket for one of another family (uvicorn's --fd)
                    # does not set it, and then each answer in two writes takes 40 ms.
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    sock.bind(address)
                    sock.listen(BACKLOG)
                    return sock
                except BaseException:
                    sock.close()
                    raise
            except OSError:
                # Somebody came between: only a port of ours is ever free for certain.
                self.give_back(port)
        raise NoPort(f"no port on {host} stays free long enough")

    def take(self, host: str, span: tuple[int, int] | None) -> int:
        """A free port on `host` (an IP address or "localhost"), from `span` (first, last) or None for any.

        Raises NoPort, also when the address is not one of this machine.
        """
        now = time.monotonic()
        self._given_back = {port: at for port, at in self._given_back.items() if now - at < REST}
        port = self._any(host) if span is None else self._within(host, span)
        self._held.add(port)
        self._given_back.pop(port, None)
        return port

    def give_back(self, port: int) -> None:
        """The process that had it is gone."""
        self._held.discard(port)
        self._given_back[port] = time.monotonic()

    def _any(self, host: str) -> int:
        # The kernel gives bind(0) the odd ports first and connect() the even ones, so an outgoing connection hardly ever takes it.
        for _ in range(100):
            port = self._bind(host, 0)
            if port not in self._held and port not in self._given_back:
                return port
        raise NoPort(f"the kernel gives no fresh port on {host}")

    def _within(self, host: str, span: tuple[int, int]) -> int:
        ports = [port for port in range(span[0], span[1] + 1) if port not in self._held]
        # Those that rested longest first; never given at all is longest.
        for port in sorted(ports, key=lambda port: self._given_back.get(port, 0.0)):
            try:
                return self._bind(host, port)
            except NoPort:
                continue
        raise NoPort(f"no port from {span[0]} to {span[1]} is free on {host}")

    def _bind(self, host: str, port: int) -> int:
        try:
            family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family, kind) as sock:
                # As most servers do; without it a port with connections in TIME_WAIT would look taken.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1 if port else 0)
                sock.bind(address)
                return int(sock.getsockname()[1])
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                raise NoPort(f"{host} is no address of this machine") from error
            raise NoPort(f"port {port} on {host}: {error.strerror}") from error
