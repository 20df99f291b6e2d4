"""Captured output: the last lines per backend, bounded, and followers of a selection."""

import json
import os

from balancer.telemetry.console import Console
from balancer.telemetry.logs import KEPT_CHARACTERS, KEPT_LINES, LINE, LOST, RECENT, Logs


def texts(logs: Logs, count: int, pool: str = "", backend: str = "") -> list[str]:
    return [line.line for line in logs.last(count, pool, backend)]


def test_a_chatty_backend_does_not_push_out_what_another_said() -> None:
    logs = Logs()
    logs.line("web", "web-0", 1, "stderr", "my last words")
    for number in range(2 * KEPT_LINES):
        logs.line("api", "api-0", 1, "stdout", str(number))
    assert texts(logs, 5, backend="web-0") == ["my last words"]
    assert texts(logs, 10_000)[0] == "my last words"
    assert texts(logs, 3, pool="api") == ["1997", "1998", "1999"]
    assert texts(logs, 10_000, pool="api") == [str(n) for n in range(KEPT_LINES, 2 * KEPT_LINES)]
    assert texts(logs, 5, pool="nothing") == []
    assert texts(logs, 0) == []


def test_long_lines_are_cut_and_the_whole_is_bounded() -> None:
    logs = Logs()
    logs.line("web", "web-0", 1, "stdout", "x" * 10 * LINE)
    (line,) = texts(logs, 1)
    assert len(line) < LINE + 50
    assert line.endswith(f"({9 * LINE} more characters)")
    for _ in range(200):
        logs.line("web", "web-0", 1, "stdout", "x" * LINE)
    assert sum(map(len, texts(logs, 10_000))) <= KEPT_CHARACTERS


async def test_followers_get_their_selection_with_the_past_first() -> None:
    logs = Logs()
    for number in range(5):
        logs.line("web", f"web-{number % 2}", 1, "stdout", f"old {number}")
    following = logs.follow(2, "web", "web-0")
    assert [(await anext(following)).line for _ in range(2)] == ["old 2", "old 4"]
    logs.line("web", "web-1", 1, "stdout", "not for us")
    logs.line("web", "web-0", 2, "stderr", "new")
    line = (await anext(following)).to_json()
    assert line.pop("time") > 1e9
    assert line == {"pool": "web", "backend": "web-0", "generation": 2, "stream": "stderr", "line": "new"}
    for number in range(RECENT + 100):
        logs.line("web", "web-0", 2, "stdout", str(number))
    lost = await anext(following)
    assert (lost.stream, lost.line.split()[0]) == (LOST, "100")
    assert (await anext(following)).line == "100"
    await following.aclose()  # type: ignore[attr-defined]


def shown(format: str) -> list[str]:  # noqa: A002
    read, written = os.pipe()
    console = Console(written)
    logs = Logs(console, format=format)
    logs.line("web", "web-3", 1, "stdout", "hello \x1b[31mred\x1b[0m\x07")
    logs.line("", "proxy-0", 4711, "stderr", "Traceback")
    logs.line("", "proxy-0", 4711, "stdout", '192.0.2.1 - - "GET / HTTP/1.1" 200 2')
    console.close(10)
    os.close(written)
    assert [line.backend for line in logs.last(5)] == ["web-3", "proxy-0"]
    with open(read) as pipe:
        return pipe.read().splitlines()


def test_the_console_shows_them_with_their_name_and_the_access_log_as_it_is() -> None:
    access = '192.0.2.1 - - "GET / HTTP/1.1" 200 2'
    assert shown("text") == ["web-3 | hello red\\x07", "proxy-0 | Traceback", access]
    first, second, third = shown("json")
    assert json.loads(first)["line"] == "hello \x1b[31mred\x1b[0m\x07"
    assert json.loads(second)["backend"] == "proxy-0"
    assert third == access
