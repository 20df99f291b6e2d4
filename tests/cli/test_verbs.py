"""The verbs that talk to a running balancer, against operations that answer what the test wants."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from balancer.admin.operations import OperationFailed
from tests.admin.fake import BACKEND, STATUS, FakeOperations, controlled
from tests.cli.run import Cli


@asynccontextmanager
async def running(config: Path) -> AsyncIterator[FakeOperations]:
    operations = FakeOperations()
    async with controlled(operations, config.with_suffix(".sock")):
        yield operations


async def test_status(cli: Cli, config: Path) -> None:
    async with running(config) as operations:
        odd = {
            **BACKEND,
            "name": "[red]web-1",
            "phase": "starting",
            "takes_requests": False,
            "pid": None,
            "uptime_seconds": 0,
        }
        operations.status_value = {**STATUS, "pools": [{**STATUS["pools"][0], "backends": [BACKEND, odd]}]}
        result = await cli.later("status", "-c", config)
        assert result.code == 0
        assert "balancer 0.1.0, up 12s, /etc/cluster.toml" in result.out
        header, first, second = (" ".join(line.split()) for line in result.out.splitlines()[-3:])
        assert header == "backend state weight pid port up restarts in flight requests memory CPU"
        assert first == "web-0 ready 1 4711 9000 1d 2h 1 2 1234567 50M 12%"
        assert second.startswith("[red]web-1 starting 1 - ")
        assert "\x1b" not in result.out
        assert json.loads((await cli.later("status", "--json", "-c", config)).out) == operations.status_value


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        (("restart", "web"), ("restart", "web", "")),
        (("restart", "web/3"), ("restart", "web", "web-3")),
        (("scale", "web", "5"), ("scale", "web", 5)),
        (("scale", "web", "max"), ("scale", "web", "max")),
        (("drain", "web/3"), ("drain", "web-3")),
        (("drain", "web-3"), ("drain", "web-3")),
        (("undrain", "web/web-3"), ("undrain", "web-3")),
        (("weight", "web/3", "0"), ("weigh", "web-3", 0)),
        (("send", "web", '{"a": [1]}'), ("send", "web", "", {"a": [1]})),
        (("send", "web/3", "null"), ("send", "", "web-3", None)),
    ],
)
async def test_what_verbs_ask_for(
    cli: Cli, config: Path, arguments: tuple[str, ...], asked: tuple[object, ...]
) -> None:
    async with running(config) as operations:
        result = await cli.later(*arguments, "-c", config)
        assert operations.did == [asked]
        assert (result.code, result.err) == (0, "")
        expected = "sent to 3 backends\n" if arguments[0] == "send" else "web-0 is ready\nreload complete\n"
        assert result.out == expected
        if arguments[0] != "send":
            operations.steps = [{"event": "done", "ok": False, "text": "it has no room"}]
            result = await cli.later(*arguments, "-c", config)
            assert (result.code, result.err) == (1, "it has no room\n")


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("drain", "web/"), 2, "names no backend"),
        (("restart", "gone"), 1, "there is no 'gone'"),
        (("weight", "web/3", "1001"), 2, "1001"),
        (("scale", "web", "0"), 2, "0 would leave nobody to answer; auto means one per usable CPU"),
        (("scale", "web", "many"), 2, "'many' is not a number of backends; expected one from 1 on, or auto"),
        (("send", "web", "hello"), 2, "is not JSON"),
        (("send", "web", "1", "--timeout", "3"), 2, "--timeout is how long --wait waits"),
        (("send", "web", "1", "--wait", "--timeout", "0"), 2, "--timeout"),
        (("send", "web", "1", "--wait", "--timeout", "soon"), 2, "'soon' is not a time; expected seconds"),
        (("stop", "--timeout", "nan"), 2, "'nan' is not a time"),
        (("stop", "--timeout", "999d"), 2, "999d is out of range; expected 0s to 366d"),
        (("send", "gone", "1", "--wait"), 1, "there is no 'gone'"),
    ],
)
async def test_what_verbs_refuse(cli: Cli, config: Path, arguments: tuple[str, ...], code: int, says: str) -> None:
    async with running(config) as operations:
        result = await cli.later(*arguments, "-c", config)
        assert (result.code, result.out) == (code, "")
        assert says in result.err
        assert result.err.count("\n") == 1
        assert operations.did == []


async def test_replies_are_lines_of_json_and_what_did_not_come_is_said(cli: Cli, config: Path) -> None:
    async with running(config) as operations:
        reply = {"event": "reply", "backend": "web-0", "generation": 2}
        lost = {"event": "no reply", "backend": "web-2", "generation": 1, "text": "web-2 went away before it replied"}
        operations.steps = [
            {**reply, "data": {"a": "é"}},
            {**reply, "error": "no", "text": "web-0 replied with an error: no"},
            lost,
            {
                "event": "done",
                "ok": False,
                "text": "web-0 replied with an error: no\nweb-2 went away before it replied",
            },
        ]
        result = await cli.later("send", "web", "[1]", "--wait", "--timeout", "2.5", "-c", config)
        assert operations.did == [("ask", "web", "", [1], 2.5)]
        assert [json.loads(line) for line in result.out.splitlines()] == [
            {"backend": "web-0", "generation": 2, "data": {"a": "é"}},
            {"backend": "web-0", "generation": 2, "error": "no"},
        ]
        assert (result.code, result.err) == (1, operations.steps[-1]["text"] + "\n")  # type: ignore[index]
        operations.steps = [{**reply, "data": None}, {"event": "done", "ok": True, "text": "1 backend replied"}]
        result = await cli.later("send", "web/0", "1", "-w", "-c", config)
        assert (operations.did[-1], result.code) == (("ask", "", "web-0", 1, 10.0), 0)
        operations.steps = []
        result = await cli.later("send", "web/0", "1", "-w", "-c", config)
        assert (result.code, result.err) == (1, "the balancer ended before every backend had replied\n")


async def test_plan_has_three_groups_and_three_exit_codes(cli: Cli, config: Path) -> None:
    async with running(config) as operations:
        result = await cli.later("plan", "-c", config)
        assert (result.code, result.out) == (0, "nothing would change but the processes themselves\n")
        assert operations.did == [("plan", str(config))]
        weight = {"key": "pool.web.weight", "old": "1", "new": "2"}
        operations.planned |= {
            "live": [weight],
            "backends": {"web": [{**weight, "old": ""}]},
            "restart": [{**weight, "new": ""}],
        }
        result = await cli.later("plan", "-c", config)
        assert (result.code, result.err) == (2, "")
        assert result.out.splitlines() == [
            "applied live",
            "  pool.web.weight: 1 → 2",
            "needs new backends in pool web",
            "  pool.web.weight: 2, new",
            "needs a restart",
            "  pool.web.weight: 1, removed",
        ]
        operations.planned = {"event": "done", "ok": False, "text": "new.toml:1: wrong"}
        result = await cli.later("plan", "-c", config.with_name("new.toml"), "--running", config)
        assert (result.code, result.err) == (1, "new.toml:1: wrong\n")
        assert operations.did[-1] == ("plan", str(config.with_name("new.toml")))
    result = await cli.later("plan", "-c", config.with_name("none.toml"))
    assert result.code == 1


async def test_reload_ends_as_the_reload_does(cli: Cli, config: Path) -> None:
    async with running(config) as operations:
        result = await cli.later("reload", "-c", config)
        assert (result.code, result.out) == (0, "web-0 is ready\nreload complete\n")
        why = "pool web rolled back: web-0 was not ready within 30 s"
        rolled_back = {"event": "done", "ok": False, "text": why}
        operations.steps = [{"event": "started", "text": "web-0 started"}, rolled_back]
        result = await cli.later("reload", "-c", config)
        assert (result.code, result.out, result.err) == (1, "web-0 started\n", why + "\n")
        operations.steps = [{"event": "started", "text": "web-0 started"}]
        result = await cli.later("reload", "-c", config)
        assert result.code == 1
        assert "before the reload was complete" in result.err
        operations.steps = [OperationFailed("it is stopping")]
        result = await cli.later("reload", "-c", config)
        assert (result.code, result.err) == (1, "it is stopping\n")


async def test_logs_of_a_selection(cli: Cli, config: Path) -> None:
    async with running(config) as operations:
        for pool, backend, text in (
            ("web", "web-0", "a"),
            ("web", "web-1", "b\x1b]0;title\x07"),
            ("api", "api-0", "c"),
        ):
            operations.output.line(pool, backend, 1, "stdout", text)
        lines = (await cli.later("logs", "-c", config)).out.splitlines()
        assert lines == ["web-0 | a", "web-1 | b\\x1b]0;title\\x07", "api-0 | c"]
        assert (await cli.later("logs", "-c", config, "web", "-n", "1")).out.startswith("web-1 | b")
        for target in ("web/0", "web/web-0"):
            assert (await cli.later("logs", "-c", config, target)).out == "web-0 | a\n"
        result = await cli.later("logs", "-c", config, "gone")
        assert (result.code, result.err) == (1, "there is no pool 'gone'\n")


async def test_events(cli: Cli, config: Path) -> None:
    async with running(config) as operations:
        operations.ring.record("ready", backend="web-0", generation=2)
        result = await cli.later("events", "-c", config)
        assert result.out.endswith("  web-0 (generation 2) ready\n")
        assert json.loads((await cli.later("events", "--json", "-c", config)).out)["event"] == "ready"


async def test_following_until_interrupted(config: Path) -> None:
    async with running(config) as operations, trio.open_nursery() as nursery:
        operations.output.line("web", "web-0", 1, "stdout", "old")
        command = [sys.executable, "-m", "balancer", "logs", "-f", "-c", str(config)]
        process = await nursery.start(lambda task_status: _run(command, task_status))
        with trio.fail_after(30):
            assert await process.stdout.receive_some() == b"web-0 | old\n"
            operations.output.line("web", "web-0", 1, "stdout", "new")
            assert await process.stdout.receive_some() == b"web-0 | new\n"
            process.send_signal(signal.SIGINT)
            assert await process.stderr.receive_some() in (b"", b"\n")
            assert await process.wait() == 130


async def _run(command: list[str], task_status: trio.TaskStatus[trio.Process]) -> None:
    await trio.run_process(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        capture_stdout=False,
        check=False,
        task_status=task_status,
    )


async def test_a_reader_that_has_enough_is_no_error(config: Path) -> None:
    async with running(config) as operations:
        for number in range(900):
            operations.output.line("web", "web-0", 1, "stdout", f"{number} {'x' * 200}")
        command = f"{sys.executable} -m balancer logs -n 900 -c {config} | head -n 1"
        result = await trio.run_process(command, shell=True, capture_stdout=True, capture_stderr=True)
        assert (result.stdout.split()[:3], result.stderr) == ([b"web-0", b"|", b"0"], b"")


SERVER = """
import sys, trio
from pathlib import Path
from tests.admin.fake import FakeOperations, controlled

async def main():
    operations = FakeOperations()
    async with controlled(operations, Path(sys.argv[1])):
        print("up", flush=True)
        await operations.stopped.wait()
        await trio.sleep(float(sys.argv[2]))

trio.run(main)
"""


@pytest.mark.parametrize(
    ("seconds", "options", "code", "said"),
    [
        ("0.2", [], 0, "stopped\n"),
        ("0.2", ["--json"], 0, '{"event": "done", "ok": true, "text": "stopped"}\n'),
        ("9", ["--timeout", "100ms"], 1, ""),
        ("9", ["--timeout", "0.1", "--json"], 1, "{"),
    ],
)
def test_stop_waits_for_the_process(
    cli: Cli, config: Path, seconds: str, options: list[str], code: int, said: str
) -> None:
    command = [sys.executable, "-c", SERVER, str(config.with_suffix(".sock")), seconds]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": os.getcwd()})
    assert process.stdout is not None
    assert process.stdout.readline() == b"up\n"
    result = cli("stop", "-c", config, *options)
    is_json = "--json" in options
    assert (result.code, result.out[: len(said) if is_json else None]) == (code, said)
    if code:
        assert "still stopping after 0.1 s" in (result.out if is_json else result.err)
        process.kill()
    assert process.wait(5) == (-signal.SIGKILL if code else 0)
