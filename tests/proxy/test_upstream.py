"""Connections to backends, in the moments that a whole proxy passes through too fast to be caught in."""

import socket
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing

from balancer.errors import Reason, Side
from balancer.net.poller import Poller
from balancer.net.wire import Wire
from balancer.proxy.backend import Backend
from balancer.proxy.pool import Pool
from balancer.proxy.queue import Grants
from balancer.proxy.security import Security
from balancer.proxy.upstream import Upstream, connect, take_idle
from balancer.telemetry.table import Table
from tests.proxy.harness import POOL, backend


class Scene:
    """A listening backend, a client's wire, and a poller that runs only when it is told to."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.client_end, client_peer = socket.socketpair()
        client_peer.setblocking(False)
        self.client = Wire(self.poller, client_peer, Side.CLIENT, Reason.CLIENT_GONE)
        table = Table.create(1, listeners=1, pools=2, backends=2)
        self.pool = Pool(POOL, table, 0, Grants.alone(0))
        self.backend = Backend(backend(0, self.listener.getsockname()[1]), self.pool, table, 0)
        self.upstream: Upstream | None = None
        self.peer: socket.socket | None = None

    async def connect(self) -> None:
        """Connect to the backend."""
        self.upstream = await connect(self.backend, self.poller, 1, self.client, Security())

    def accept(self) -> socket.socket:
        """The backend's end of the connection."""
        self.peer, _ = self.listener.accept()
        return self.peer

    def close(self) -> None:
        """Give everything back."""
        for closing in (self.listener, self.client_end, self.client, self.upstream, self.peer, self.poller):
            if closing is not None:
                closing.close()


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    found = Scene()
    yield found
    found.close()


async def test_what_a_backend_says_before_it_is_asked_is_not_forgotten(scene: Scene) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.connect)
        await trio.testing.wait_all_tasks_blocked()
        # It answers and closes before the poller has reported that it is there at all.
        with scene.accept() as peer:
            peer.sendall(b"HTTP/1.1 503 Busy\r\n\r\n")
        nursery.start_soon(scene.poller.run)
        await trio.testing.wait_all_tasks_blocked()
        assert scene.upstream is not None
        with trio.fail_after(5):
            assert (await scene.upstream.wire.receive()).startswith(b"HTTP/1.1 503")
            assert await scene.upstream.wire.receive() == b""
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"])
async def test_an_end_that_the_poller_has_not_reported_yet(scene: Scene, last_words: bytes) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(scene.poller.run)
        await scene.connect()
        nursery.cancel_scope.cancel()
    upstream = scene.upstream
    assert upstream is not None
    upstream.park()
    peer = scene.accept()
    assert take_idle(scene.backend) is upstream
    assert upstream.is_open()
    peer.sendall(last_words)
    peer.close()
    assert not upstream.is_open()
