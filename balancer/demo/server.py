"""Accepts connections, a thread for each, and brings all of them to an end.

Threads and not asyncio: importing it would double the start-up time, and a blocking handler is the simplest to read.
"""

import select
import socket
import threading

from balancer.demo.exchange import BadRequest, Exchange
from balancer.demo.routes import answer

BACKLOG = 1024


class Server:
    """One listening socket and its connections. Raises OSError when it cannot listen."""

    def __init__(self, host: str, port: int) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        self._listener.setblocking(False)
        self._woken, self._wake = socket.socketpair()
        self._connections: set[Connection] = set()
        self._changed = threading.Condition()
        self.stopping = threading.Event()

    @property
    def address(self) -> str:
        """host:port as it is bound."""
        host, port = self._listener.getsockname()[:2]
        return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def start(self) -> None:
        """Accept from now on, in a thread."""
        self._accepting = threading.Thread(target=self._accept, name="accept", daemon=True)
        self._accepting.start()

    def stop(self, grace: float) -> None:
        """Accept no more, close idle connections, and wait up to `grace` seconds for requests in progress.

        What arrived before this call is in progress, also on a connection that still waited to be accepted.
        """
        self.stopping.set()
        self._wake.close()
        self._accepting.join(grace)
        with self._changed:
            for connection in self._connections:
                connection.wake_if_idle()
            self._changed.wait_for(lambda: not self._connections, timeout=grace)

    def _accept(self) -> None:
        ready = select.poll()
        ready.register(self._listener, select.POLLIN)
        ready.register(self._woken, select.POLLIN)
        while not self.stopping.is_set():
            ready.poll()
            self._accept_one()
        # Closing resets what waits in the queue: it is emptied first. No more than it can hold, or a crowd that keeps
        # coming would put the end off for ever.
        for _ in range(BACKLOG):
            if not self._accept_one():
                break
        self._listener.close()

    def _accept_one(self) -> bool:
        """Take the next connection. False: none waits."""
        try:
            sock, _ = self._listener.accept()
        except BlockingIOError:
            return False
        except OSError:
            return True  # the client left before it was accepted
        sock.setblocking(True)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(sock, self.stopping)
        with self._changed:
            self._connections.add(connection)
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()
        return True

    def _serve(self, connection: "Connection") -> None:
        try:
            connection.run()
        finally:
            with self._changed:
                self._connections.discard(connection)
                self._changed.notify_all()


class Connection:
    """One client: exchanges one after another."""

    def __init__(self, sock: socket.socket, stopping: threading.Event) -> None:
        self._sock = sock
        self._stopping = stopping
        self._exchange: Exchange | None = None

    def wake_if_idle(self) -> None:
        """End the wait for a next request or message. What has arrived already is still read and answered."""
        if self._exchange is None or self._exchange.is_endless:
            try:
                self._sock.shutdown(socket.SHUT_RD)
            except OSError:
                pass  # the client was faster

    def run(self) -> None:
        """Answer until either side closes. A client that breaks off is nothing to report."""
        with self._sock, self._sock.makefile("rb") as reader:
            try:
                while True:
                    if self._stopping.is_set():
                        self.wake_if_idle()
                    exchange = self._exchange = Exchange.read(self._sock, reader, self._stopping)
                    if exchange is None:
                        return
                    answer(exchange)
                    if not exchange.finish():
                        return
                    self._exchange = None  # before the loop looks at `_stopping`: one of the two sides notices
            except BadRequest as error:
                if self._exchange is not None and self._exchange.is_begun:
                    return  # cutting the answer short is all that can still be said
                text = f"{error}\n".encode()
                head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n"
                try:
                    self._sock.sendall(head + b"Content-Length: %d\r\n\r\n%s" % (len(text), text))
                except OSError:
                    pass
            except OSError:
                pass
