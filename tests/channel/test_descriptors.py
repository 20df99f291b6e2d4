"""Descriptors on the channel: they arrive with their line, in order, and none leaks at either end."""

import os
import socket
from collections.abc import Iterator

import pytest
import trio

from balancer.channel.lines import WHOLE_LINE, Channel


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def pipe_with(text: bytes) -> int:
    """The read end of a pipe in which this is."""
    read_end, write_end = os.pipe()
    os.write(write_end, text)
    os.close(write_end)
    return read_end


async def test_they_come_with_their_lines_also_when_they_had_to_wait(ends: tuple[socket.socket, socket.socket]) -> None:
    before = open_descriptors()
    sender, receiver = Channel(ends[0]), Channel(ends[1], takes_descriptors=True)
    filling = 0
    while sender.queued == 0:
        assert sender.send("x" * 20_000)
        filling += 1
    for number in range(20):
        descriptor = pipe_with(b"%d" % number)
        assert sender.send(number, [descriptor])
        os.close(descriptor)
    got = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        with trio.fail_after(5):
            for _ in range(filling):
                assert await receiver.receive() == "x" * 20_000
            for _ in range(20):
                number = await receiver.receive()
                descriptor = receiver.descriptors.popleft()
                got.append((number, int(os.read(descriptor, 10))))
                os.close(descriptor)
        nursery.cancel_scope.cancel()
    assert got == [(number, number) for number in range(20)]
    assert open_descriptors() == before
    sender.close()
    receiver.close()


async def test_unwanted_ones_and_unsent_ones_are_closed(ends: tuple[socket.socket, socket.socket]) -> None:
    before = open_descriptors()
    sender, receiver = Channel(ends[0]), Channel(ends[1])
    descriptor = pipe_with(b"")
    assert sender.send("one", [descriptor])
    with trio.fail_after(5):
        assert await receiver.receive() == "one"
    assert open_descriptors() == before + 1
    while sender.queued == 0:
        assert sender.send("x" * 20_000)
    assert sender.send("late", [descriptor])
    os.close(descriptor)
    assert open_descriptors() == before + 1
    sender.close()
    receiver.close()
    assert open_descriptors() == before - 2


async def test_two_writers_of_whole_lines_never_tear_one(ends: tuple[socket.socket, socket.socket]) -> None:
    copy = ends[0].dup()
    copy.setblocking(False)
    one, receiver = Channel(ends[0], max_sent=WHOLE_LINE), Channel(ends[1])
    assert not one.send("x" * WHOLE_LINE)
    other = b'"' + b"o" * 300 + b'"\n'
    sent = 0

    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.run)
        for _ in range(100):
            assert one.send("x" * (WHOLE_LINE - 3))
            for _ in range(3):
                try:
                    assert copy.send(other) == len(other)
                    sent += 1
                except BlockingIOError:
                    pass
        with trio.fail_after(10):
            for _ in range(100 + sent):
                assert set(await receiver.receive()) in ({"x"}, {"o"})
        nursery.cancel_scope.cancel()
    assert sent
    assert receiver.garbage == 0
    copy.close()
    one.close()
    receiver.close()
