"""Captured output: whole lines however they arrive, bounded, and no longer than the process lives."""

import os

import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from balancer.supervisor.output import MAX_LINE, Lines, capture


@given(
    text=st.text(st.sampled_from("aé\n\r\x00"), max_size=60),
    cuts=st.lists(st.integers(1, 9), min_size=1, max_size=9),
)
def test_any_cutting_gives_the_same_lines(text: str, cuts: list[int]) -> None:
    data, lines, got, turn = text.encode(), Lines(), [], 0
    while data:
        size = cuts[turn % len(cuts)]
        got += lines.feed(data[:size])
        data, turn = data[size:], turn + 1
    got += lines.end()
    *whole, rest = text.split("\n")
    assert got == [line.removesuffix("\r") for line in (*whole, *([rest] if rest else []))]


@given(sizes=st.lists(st.integers(0, 3 * MAX_LINE), max_size=4), piece=st.integers(1000, 5 * MAX_LINE))
def test_a_line_without_end_is_cut_and_nothing_is_lost(sizes: list[int], piece: int) -> None:
    data, lines, got = b"\n".join(b"x" * size for size in sizes), Lines(), []
    for start in range(0, len(data), piece):
        got += lines.feed(data[start : start + piece])
    got += lines.end()
    assert all(len(line) <= MAX_LINE for line in got)
    assert sum(map(len, got)) == sum(sizes)


async def test_what_was_written_before_the_end_is_read_and_a_daemon_holds_nothing_up() -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    exited = trio.Event()
    lines: list[str] = []
    os.write(write, b"first\nlast words")
    exited.set()
    # `write` stays open, as in a daemon that the process left behind.
    with trio.fail_after(10):
        await capture(read, lines.append, exited)
    os.close(write)
    assert lines == ["first", "last words"]


async def test_nothing_is_read_before_there_is_room_for_it() -> None:
    read, write = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read, False)
    lines: list[str] = []
    has_room = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(capture, read, lines.append, trio.Event(), has_room.wait)
        os.write(write, b"first\nsecond\n")
        await trio.testing.wait_all_tasks_blocked(0.01)
        assert lines == []
        has_room.set()
        os.close(write)
    assert lines == ["first", "second"]
