"""The wire: waits that end with bytes, with an end, with a deadline or from outside, and never hang."""

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic

import pytest
import trio
import trio.testing

from balancer.errors import Fault, Moment, Reason, Side
from balancer.net.poller import Poller
from balancer.net.splice import LOW_WATER, Pipes, Transfer, lower_low_water
from balancer.net.wire import Wire


def tcp() -> tuple[socket.socket, socket.socket]:
    """Both ends of a connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        near = socket.create_connection(listener.getsockname())
        far, _ = listener.accept()
    near.setblocking(False)
    return near, far


@asynccontextmanager
async def wires(count: int = 1) -> AsyncIterator[list[tuple[Wire, socket.socket]]]:
    """So many wires, each with the socket at its other end, and a poller that runs."""
    poller = Poller()
    found = []
    for _ in range(count):
        near, far = tcp()
        found.append((Wire(poller, near, Side.BACKEND, Reason.RESET), far))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(poller.run)
        yield found
        nursery.cancel_scope.cancel()
    for wire, far in found:
        wire.close()
        far.close()
    assert not poller.wires
    poller.close()


class Caught:
    """What a wait ended with."""

    def __init__(self) -> None:
        self.fault: Fault | None = None
        self.data: bytes | None = None

    async def receive(self, wire: Wire) -> None:
        """Wait for bytes."""
        try:
            self.data = await wire.receive()
        except Fault as fault:
            self.fault = fault

    async def send(self, wire: Wire, data: bytes) -> None:
        """Wait for room."""
        try:
            await wire.send(data)
        except Fault as fault:
            self.fault = fault


async def test_bytes_then_an_end() -> None:
    async with wires() as [(wire, far)]:
        far.sendall(b"one")
        assert await wire.receive() == b"one"
        far.sendall(b"two")
        far.close()
        with trio.fail_after(5):
            assert await wire.receive(2) == b"tw"
            assert await wire.receive(2) == b"o"
            assert await wire.receive() == b""
            assert await wire.receive() == b""


async def test_a_reset_is_this_sides_fault() -> None:
    async with wires() as [(wire, far)]:
        caught = Caught()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caught.receive, wire)
            await trio.testing.wait_all_tasks_blocked()
            far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            far.close()
        assert caught.fault is not None
        assert (caught.fault.side, caught.fault.reason) == (Side.BACKEND, Reason.RESET)
        assert caught.fault.moment is Moment.AFTER_SEND
        assert wire.left
        assert wire.is_gone()


@pytest.mark.parametrize("how", ["interrupt", "close"])
async def test_waits_end_from_outside(how: str) -> None:
    async with wires() as [(wire, _)]:
        reading, writing = Caught(), Caught()
        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(reading.receive, wire)
                nursery.start_soon(writing.send, wire, bytes(50_000_000))
                await trio.testing.wait_all_tasks_blocked()
                if how == "close":
                    wire.close()
                else:
                    wire.interrupt(Fault(Side.CLIENT, Reason.CLIENT_GONE))
        wanted = Reason.RESET if how == "close" else Reason.CLIENT_GONE
        assert [caught.fault and caught.fault.reason for caught in (reading, writing)] == [wanted, wanted]
        with pytest.raises(Fault):
            await wire.wait_readable()


async def test_a_client_that_leaves_ends_the_waits_of_another_wire() -> None:
    async with wires(2) as [(client, client_far), (backend, _)]:
        caught = Caught()
        client.watcher = backend
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caught.receive, backend)
            await trio.testing.wait_all_tasks_blocked()
            # What it has said and nobody has read: it is still there.
            client_far.sendall(b"more")
            await trio.testing.wait_all_tasks_blocked()
            assert caught.fault is None
            await client.receive()
            client_far.close()
        assert caught.fault is not None


async def test_unread_bytes_and_an_end_are_not_gone_but_a_reset_is() -> None:
    async with wires(2) as [(polite, polite_far), (rude, rude_far)]:
        for far in (polite_far, rude_far):
            far.sendall(b"unread")
        polite_far.close()
        await trio.testing.wait_all_tasks_blocked()
        rude_far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        rude_far.close()
        await trio.testing.wait_all_tasks_blocked()
        assert not polite.is_gone()
        assert rude.is_gone()
        await polite.receive()
        assert polite.is_gone()


async def test_a_write_deadline_counts_from_the_last_progress() -> None:
    async with wires() as [(wire, far)]:
        wire.write_timeout = 10
        caught = Caught()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(caught.send, wire, bytes(50_000_000))
            await trio.testing.wait_all_tasks_blocked()
            first = wire.write_deadline
            assert monotonic() < first <= monotonic() + 10
            while wire.write_deadline == first:
                far.recv(1_000_000)
                await trio.testing.wait_all_tasks_blocked()
            assert wire.write_deadline > first
            nursery.cancel_scope.cancel()


async def test_a_cancelled_wait_leaves_the_wire_usable() -> None:
    async with wires() as [(wire, far)]:
        with trio.move_on_after(0.01):
            await wire.receive()
        far.sendall(b"later")
        with trio.fail_after(5):
            assert await wire.receive() == b"later"


async def test_a_transfer_counts_what_has_left_and_gives_its_pipe_back() -> None:
    pipes = Pipes()
    pipe = pipes.take()
    assert pipe is not None
    size = 4 * LOW_WATER
    async with wires(2) as [(source, source_far), (target, target_far)]:
        for cut in (size, size - 5):
            await _carry(Transfer(source, target, pipes, pipe), source, source_far, target_far, size, cut)
            assert source.sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT) == 1
            assert pipes.take() == pipe
        pipes.give_back(pipe, is_empty=True)
    pipes.close()


async def _carry(
    transfer: Transfer, source: Wire, feeding: socket.socket, drained: socket.socket, size: int, cut: int
) -> None:
    """Carry a body of `size` bytes of which `cut` come."""

    def feed() -> None:
        feeding.sendall(bytes(cut))
        if cut < size:
            feeding.close()

    def drain() -> None:
        left = cut
        while left:
            left -= len(drained.recv(min(left, 65536)))

    async def sweep() -> None:
        # What `proxy/sweep` does when a good piece does not come.
        while True:
            await trio.sleep(0.01)
            if source.lowat:
                lower_low_water(source)

    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sweep)
            async with trio.open_nursery() as ends:
                ends.start_soon(trio.to_thread.run_sync, feed)
                ends.start_soon(trio.to_thread.run_sync, drain)
                assert await transfer.run(size, 5) is (cut == size)
            nursery.cancel_scope.cancel()
    assert transfer.moved == cut
