"""The channel: values arrive whole and in order, and a bad end costs nothing but a count."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from balancer.channel.lines import Channel
from balancer.errors import ChannelClosed

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    with left, right:
        yield left, right


@given(values=st.lists(JSON, max_size=6), cuts=st.lists(st.integers(1, 40), min_size=1, max_size=20))
def test_any_cutting_of_the_stream_gives_the_same_values(values: list[Any], cuts: list[int]) -> None:
    async def exchange() -> list[Any]:
        left, right = socket.socketpair()
        with right:
            channel = Channel(left)
            data = b"".join(json.dumps(value).encode() + b"\n" for value in values)
            got = []
            async with trio.open_nursery() as nursery:

                async def feed() -> None:
                    stream = trio.SocketStream(trio.socket.from_stdlib_socket(right))
                    position, turn = 0, 0
                    while position < len(data):
                        size = cuts[turn % len(cuts)]
                        await stream.send_all(data[position : position + size])
                        position, turn = position + size, turn + 1

                nursery.start_soon(feed)
                for _ in values:
                    got.append(await channel.receive())  # noqa: PERF401
            channel.close()
            return got

    assert trio.run(exchange) == values


async def test_what_is_not_json_or_too_long_is_counted_and_skipped(ends: tuple[socket.socket, socket.socket]) -> None:
    channel = Channel(ends[0], max_line=100)
    ends[1].sendall(b"nonsense\n\n\xff\xfe\nNaN\n" + b"[" * 99 + b"\n" + b'"' + b"x" * 5000)
    ends[1].sendall(b"x" * 100 + b'"\n{"type":"ready"}\n"' + b"y" * 99 + b'"\n1\n')
    with trio.fail_after(5):
        assert await channel.receive() == {"type": "ready"}
        assert await channel.receive() == 1
    assert channel.garbage == 7
    assert channel.received == 2


async def test_an_end_that_does_not_read_costs_a_bounded_queue(ends: tuple[socket.socket, socket.socket]) -> None:
    sender, receiver = Channel(ends[0], max_queued=300_000), Channel(ends[1])
    value = "x" * 10_000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        accepted = 0
        while sender.send(value):
            accepted += 1
        assert sender.dropped == 1
        assert sender.queued <= 300_000
        with trio.fail_after(5):
            for _ in range(accepted):
                assert await receiver.receive() == value
        assert sender.send("again")
        with trio.fail_after(5):
            assert await receiver.receive() == "again"
        sender.close()
        receiver.close()


async def test_either_end_closing_is_told_to_who_waits(ends: tuple[socket.socket, socket.socket]) -> None:
    left, right = Channel(ends[0]), Channel(ends[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(left.run)
        nursery.start_soon(right.run)

        async def expect(channel: Channel) -> None:
            with trio.fail_after(5), pytest.raises(ChannelClosed):
                await channel.receive()

        nursery.start_soon(expect, left)
        nursery.start_soon(expect, right)
        await trio.testing.wait_all_tasks_blocked()
        left.close()
        left.close()
        right.close()
    assert not right.send("late")
    assert right.dropped == 1


async def test_sending_to_an_end_that_is_gone_is_a_drop(ends: tuple[socket.socket, socket.socket]) -> None:
    channel = Channel(ends[0])
    ends[1].close()
    assert not channel.send(1)
    assert not channel.send(2)
    assert channel.dropped == 2
    with trio.fail_after(5):
        await channel.run()
