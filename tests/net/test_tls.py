"""A wire that speaks TLS, against Python's own `ssl` at the other end of a real connection."""

import select
import socket
import ssl
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from time import monotonic

import pytest
import trio
import trio.testing

from balancer.errors import Fault, Reason, Side
from balancer.net.contexts import server_context
from balancer.net.linger import linger
from balancer.net.poller import Poller
from balancer.net.tls import TlsWire
from tests.support.certificates import Authority, server_tls
from tests.support.packets import data_packets

PATIENCE = 5.0


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


class Peer:
    """The other end: `ssl` over a trio stream."""

    def __init__(self, sock: socket.socket, authority: Authority) -> None:
        self.context = ssl.create_default_context(cafile=str(authority.file))
        self.raw = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self.stream = trio.SSLStream(self.raw, self.context, server_hostname="localhost")

    def reset(self) -> None:
        self.raw.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.raw.socket.close()


def pair(small: bool = False) -> tuple[socket.socket, socket.socket]:
    """(ours, theirs): a TCP connection; small: with little room in the kernel."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.socket()
        if small:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        theirs.connect(listener.getsockname())
        ours, _ = listener.accept()
    if small:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    for sock in (ours, theirs):
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


@asynccontextmanager
async def connected(
    authority: Authority, small: bool = False, shake: bool = True
) -> AsyncIterator[tuple[TlsWire, Peer]]:
    """Our wire and its peer, after the handshake."""
    ours, theirs = pair(small)
    poller = Poller()
    wire = TlsWire(poller, ours, Side.CLIENT, Reason.CLIENT_GONE)
    peer = Peer(theirs, authority)
    context = server_context(server_tls(authority.issue("localhost")))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        with trio.fail_after(PATIENCE):
            if shake:
                async with trio.open_nursery() as both:
                    both.start_soon(wire.handshake, context)
                    both.start_soon(peer.stream.do_handshake)
            yield wire, peer
        nursery.cancel_scope.cancel()
    wire.close()
    with suppress(OSError):
        peer.raw.socket.close()
    poller.close()


async def test_bytes_go_both_ways(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        await peer.stream.send_all(b"hello")
        assert await wire.receive() == b"hello"
        await wire.send(b"and back")
        assert await peer.stream.receive_some(100) == b"and back"


async def test_what_openssl_holds_is_read_before_the_kernel_is_asked(authority: Authority) -> None:
    """A record is read in small pieces: the kernel has nothing more, and no event will come."""
    async with connected(authority) as (wire, peer):
        await peer.stream.send_all(b"0123456789" * 100)
        got = b""
        while len(got) < 1000:
            piece = await wire.receive(7)
            assert len(piece) <= 7
            got += piece
        assert got == b"0123456789" * 100


async def test_large_bodies_in_both_directions_at_once(authority: Authority) -> None:
    async with connected(authority, small=True) as (wire, peer):
        body = bytes(range(256)) * 4096 * 2
        got: dict[str, bytearray] = {"ours": bytearray(), "theirs": bytearray()}

        async def take() -> None:
            while len(got["ours"]) < len(body):
                got["ours"] += await wire.receive(100_000)

        async def their_take() -> None:
            while len(got["theirs"]) < len(body):
                got["theirs"] += await peer.stream.receive_some(100_000)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(take)
            nursery.start_soon(their_take)
            nursery.start_soon(peer.stream.send_all, body)
            nursery.start_soon(wire.send, body)
        assert got["ours"] == body
        assert got["theirs"] == body


async def test_large_pieces_are_joined(authority: Authority) -> None:
    """Several records that are here make one piece."""
    async with connected(authority) as (wire, peer), trio.open_nursery() as nursery:
        nursery.start_soon(peer.stream.send_all, bytes(262_144))
        await trio.testing.wait_all_tasks_blocked(0.01)
        sizes = [len(await wire.receive(131_072))]
        while sum(sizes) < 262_144:
            sizes.append(len(await wire.receive(131_072)))
        assert 16_384 < max(sizes) <= 131_072


async def test_an_end_that_was_announced_is_an_end(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        await peer.stream.send_all(b"last")
        with suppress(ssl.SSLWantReadError):
            peer.stream._ssl_object.unwrap()
        await peer.raw.send_all(peer.stream._outgoing.read())
        await peer.raw.send_eof()
        assert await wire.receive() == b"last"
        assert await wire.receive() == b""


async def test_a_connection_that_breaks_off_is_no_end(authority: Authority) -> None:
    """Without close_notify anybody may have cut it: a body that ends there is not whole."""
    async with connected(authority) as (wire, peer):
        await peer.stream.send_all(b"last")
        await peer.raw.send_eof()
        assert await wire.receive() == b"last"
        with pytest.raises(Fault, match="close_notify") as caught:
            await wire.receive()
        assert caught.value.reason is Reason.CLIENT_GONE


async def test_a_reset_is_a_fault(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        assert wire.is_silent()
        peer.reset()
        await wire.wait_readable()
        assert wire.is_gone()
        with pytest.raises(Fault):
            await wire.receive()


async def test_close_says_goodbye(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        await wire.send(b"bye")
        wire.close()
        assert await peer.stream.receive_some(100) == b"bye"
        assert await peer.stream.receive_some(100) == b""


async def test_a_cut_does_not_say_goodbye(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        await wire.send(b"half of it")
        assert await peer.stream.receive_some(100) == b"half of it"
        wire.reset_on_close()
        wire.close()
        with pytest.raises(trio.BrokenResourceError):
            await peer.stream.receive_some(100)


async def test_linger_says_goodbye_and_takes_in_what_still_comes(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        await peer.stream.send_all(bytes(100_000))
        await wire.send(b"enough")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(linger, wire)
            assert await peer.stream.receive_some(100) == b"enough"
            assert await peer.stream.receive_some(100) == b""
            await peer.raw.send_eof()
        wire.close()


async def test_half_close_keeps_what_had_come_and_what_comes(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        await peer.stream.send_all(b"before")
        await trio.testing.wait_all_tasks_blocked(0.01)
        wire.shutdown_write()
        assert await peer.stream.receive_some(100) == b""
        # `ssl` has seen our end and still lets its owner speak.
        peer.stream._ssl_object.write(b" and after")
        await peer.raw.send_all(peer.stream._outgoing.read())
        got = b""
        while len(got) < len(b"before and after"):
            got += await wire.receive()
        assert got == b"before and after"


async def test_a_peer_that_leaves_is_noticed_behind_what_it_had_said(authority: Authority) -> None:
    async with connected(authority) as (wire, peer):
        assert not wire.is_gone()
        await peer.stream.send_all(b"last words")
        await peer.stream.aclose()
        wire.on_events(select.EPOLLIN | select.EPOLLRDHUP)
        assert not wire.is_gone()
        assert await wire.receive() == b"last words"
        assert wire.is_gone()


async def test_tickets_are_not_bytes(authority: Authority) -> None:
    """After a TLS 1.3 handshake the server sends session tickets, which a client of ours must not take for a response."""
    ours, theirs = pair()
    poller = Poller()
    wire = TlsWire(poller, ours, Side.BACKEND, Reason.RESET)
    files = authority.issue("localhost", stem="server")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.cert, files.key)
    server = trio.SSLStream(trio.SocketStream(trio.socket.from_stdlib_socket(theirs)), context, server_side=True)
    trusting = ssl.create_default_context(cafile=str(authority.file))
    trusting.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(poller.run)
            async with trio.open_nursery() as both:
                both.start_soon(wire.handshake, trusting, "localhost")
                both.start_soon(server.do_handshake)
            assert wire.is_silent()
            await server.send_all(b"unasked")
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert not wire.is_silent()
            await server.aclose()
            nursery.cancel_scope.cancel()
    wire.close()
    poller.close()


async def test_a_certificate_is_not_verified_without_a_name(authority: Authority) -> None:
    """Verified, but by no name: any certificate of the same authority would do."""
    async with connected(authority, shake=False) as (wire, _peer):
        with pytest.raises(Fault) as caught:
            await wire.handshake(ssl.create_default_context(cafile=str(authority.file)))
        assert "no name" in caught.value.detail
        assert wire.tls is None


async def test_drained_is_what_the_kernel_says(authority: Authority) -> None:
    """What TLS itself has sent would make `close` a reset as well."""
    async with connected(authority) as (wire, peer):
        assert wire.is_drained()
        await peer.stream.send_all(b"x")
        await wire.wait_readable()
        assert not wire.is_drained()
        assert await wire.receive() == b"x"
        assert wire.is_drained()


async def test_the_last_words_leave_with_the_end(authority: Authority) -> None:
    """One packet for the answer and TLS's own last word, also where reading goes on."""
    async with connected(authority) as (wire, peer):
        before = data_packets(peer.raw.socket)
        assert wire.send_last(b"answer") == 6
        await wire.hang_up()
        assert await peer.stream.receive_some(100) == b"answer"
        assert await peer.stream.receive_some(100) == b""
        assert data_packets(peer.raw.socket) == before + 1


async def test_garbage_fails_the_handshake_and_leaves_a_plain_wire(authority: Authority) -> None:
    async with connected(authority, shake=False) as (wire, peer):
        await peer.raw.send_all(b"\x16\x03\x01\xff\xff" + bytes(300))
        with pytest.raises(Fault) as caught:
            await wire.handshake(server_context(server_tls(authority.issue("localhost"))))
        assert caught.value.reason is Reason.TLS_FAILED
        assert wire.tls is None


async def test_a_handshake_that_stands_still_can_be_interrupted(authority: Authority) -> None:
    async with connected(authority, shake=False) as (wire, _peer):
        context = server_context(server_tls(authority.issue("localhost")))
        caught: list[Fault] = []

        async def shake() -> None:
            try:
                await wire.handshake(context)
            except Fault as fault:
                caught.append(fault)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(shake)
            await trio.testing.wait_all_tasks_blocked(0.01)
            assert wire.reader is not None
            wire.interrupt(Fault(Side.CLIENT, Reason.CLIENT_GONE))
        assert [fault.reason for fault in caught] == [Reason.CLIENT_GONE]


async def test_a_key_update_that_finds_no_room_does_not_stop_the_reading(authority: Authority) -> None:
    """What OpenSSL wants to write while it reads is waited for by the reader; the writer's place stays free."""
    async with connected(authority) as (wire, _peer):
        wire.readable = False
        wire._cross()
        woken = trio.Event()

        async def wait() -> None:
            await wire.wait_readable()
            woken.set()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            started = monotonic()
            await woken.wait()
            assert monotonic() - started < PATIENCE
