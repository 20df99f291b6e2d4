"""What the kernel takes for a client that does not read."""

import socket
from collections.abc import Iterator

import pytest

from balancer.errors import Reason, Side
from balancer.net.poller import Poller
from balancer.net.unsent import PROOF, UNSENT, bound_accepted, heed
from balancer.net.wire import Wire

PIECE = bytes(32 * 1024)


@pytest.fixture
def poller() -> Iterator[Poller]:
    poller = Poller()
    yield poller
    poller.close()


def taken(wire: Wire) -> int:
    """Bytes until the kernel takes no more."""
    total = 0
    while sent := wire.send_now(PIECE):
        total += sent
    return total


def test_little_until_the_client_has_shown_that_it_reads(poller: Poller) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        bound_accepted(listener)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
        client.connect(listener.getsockname())
        sock, _ = listener.accept()
        sock.setblocking(False)
        wire = Wire(poller, sock, Side.CLIENT, Reason.CLIENT_GONE)
        wire.is_bounded = True
        before = taken(wire)
        # What the client's window holds comes on top of what is not sent.
        assert UNSENT <= before < UNSENT + 256 * 1024
        heed(wire, PROOF - 1)
        assert wire.is_bounded
        assert taken(wire) == 0
        heed(wire, PROOF)
        assert not wire.is_bounded
        assert taken(wire) > UNSENT
        wire.close()
