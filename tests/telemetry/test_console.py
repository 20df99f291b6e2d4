"""The console: whole lines in order, and a reader that stops reading stops nothing."""

import io
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from balancer.telemetry.console import Console, Prefixes, printable, takes_colour


def read_all(fd: int) -> bytes:
    with open(fd, "rb") as pipe:
        return pipe.read()


def test_lines_of_many_threads_stay_whole() -> None:
    read, written = os.pipe()
    console = Console(written)

    def write(name: str) -> None:
        for number in range(200):
            console.write(f"{name} {number} {'x' * 500}")

    threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(read_all(read)))
    for thread in (*threads, reader):
        thread.start()
    for thread in threads:
        thread.join()
    console.close(10)
    os.close(written)
    reader.join()
    lines = found[0].decode().splitlines()
    assert (len(lines), console.written) == (800, 800)
    for name in "abcd":
        assert [line for line in lines if line[0] == name] == [f"{name} {n} {'x' * 500}" for n in range(200)]


def test_a_terminal_that_is_stopped_costs_lines_and_not_time() -> None:
    read, written = os.pipe()
    console = Console(written, queued=100_000)
    begun = time.monotonic()
    taken = sum(console.write("x" * 999) for _ in range(2000))
    console.close(0.05)
    assert time.monotonic() - begun < 20
    assert console.dropped == 2000 - taken > 1000
    # It goes on as soon as somebody reads, and says what is missing.
    os.set_blocking(read, True)
    data = b""
    while b"not shown" not in data:
        data += os.read(read, 1 << 16)
    lines = data.decode().splitlines()
    assert lines[-1] == f"balancer: {console.dropped} lines are not shown: the console was too slow"
    assert set(lines[:-1]) == {"x" * 999}
    os.close(read)


def test_a_reader_that_has_left_and_a_line_that_cannot_be_made() -> None:
    read, written = os.pipe()
    console = Console(written)
    console.write(lambda: str(1 // 0))
    os.close(os.dup(read))
    console.write(lambda: "made late")
    console.close(10)
    assert b"could not be made" in os.read(read, 1000)
    os.close(read)
    console = Console(written)
    console.write("nobody reads this")
    console.close(10)
    assert (console.written, console.dropped) == (0, 1)
    assert not console.write("too late")
    os.close(written)


async def test_a_regular_file_costs_time_and_no_lines(tmp_path: Path) -> None:
    path = tmp_path / "out"
    fd = os.open(path, os.O_WRONLY | os.O_CREAT)
    # The start is not over yet, and more comes than fits.
    console = Console(fd, queued=100_000, grace=30)
    with trio.fail_after(10):
        for number in range(5000):
            await console.room()
            assert console.write(f"{number} {'x' * 200}")
    console.close(10)
    os.close(fd)
    assert console.dropped == 0
    assert [int(line.split()[0]) for line in path.read_text().splitlines()] == list(range(5000))


async def test_a_pipe_that_nobody_reads_is_not_waited_for() -> None:
    read, written = os.pipe()
    console = Console(written, queued=1_000_000, grace=30)
    while console.write("x" * 999):
        pass
    with trio.fail_after(1):
        await console.room()
    console.close(0.05)
    os.close(read)
    os.close(written)


@pytest.mark.parametrize("end", [Console.release, Console.close])
def test_the_lines_of_a_start_wait_until_it_is_over(end: Callable[[Console], None]) -> None:
    read, written = os.pipe()
    os.set_blocking(read, False)
    made = threading.Event()

    def line() -> str:
        made.set()
        return "made"

    console = Console(written, grace=30)
    console.write(line)
    assert not made.wait(0.2)
    end(console)
    assert made.wait(5)
    console.close(5)
    assert os.read(read, 100) == b"made\n"
    console = Console(written, grace=0.05)
    made.clear()
    console.write(line)
    assert made.wait(5)
    console.close(5)
    os.close(read)
    os.close(written)


@given(st.text(), st.booleans())
def test_nothing_that_a_backend_writes_steers_the_terminal(text: str, coloured: bool) -> None:
    shown = printable(f"{text}\x1b[31mred\x1b]0;title\x07\r\n", coloured)
    bare = re.sub(r"\x1b\[[0-9;]*m", "", shown) if coloured else shown
    assert not any(ord(c) < 32 and c != "\t" for c in bare)
    assert not any(0x7F <= ord(c) < 0xA0 for c in bare)
    assert ("\x1b[31m" in shown) == coloured


def test_prefixes_line_up_and_keep_their_colour() -> None:
    plain, coloured = Prefixes(False), Prefixes(True)
    assert [plain.of(name) for name in ("web-3", "worker-12", "web-3")] == ["web-3 | ", "worker-12 | ", "web-3     | "]
    first = coloured.of("web-3")
    assert first.startswith("\x1b[")
    assert coloured.of("api-0").split("m")[0] != first.split("m")[0]
    assert coloured.of("web-3") == first


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert takes_colour(Terminal())
    assert not takes_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not takes_colour(Terminal())
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.setenv("TERM", "dumb")
    assert not takes_colour(Terminal())
