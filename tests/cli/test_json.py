"""`--json`: what verbs say as lines of JSON, against operations that answer what the test wants."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from balancer.admin.operations import OperationFailed
from balancer.cli.command import VERBS
from tests.admin.fake import FakeOperations, controlled
from tests.cli.run import Cli

WAITING = [
    ("reload",),
    ("restart", "web"),
    ("scale", "web", "5"),
    ("drain", "web/3"),
    ("undrain", "web/3"),
    ("weight", "web/3", "7"),
    ("send", "web", "1", "--wait"),
]
ALONE = {"run", "check", "init", "schema"}  # what talks to no running balancer, or not mainly


@pytest.fixture
async def operations(config: Path) -> AsyncIterator[FakeOperations]:
    operations = FakeOperations()
    async with controlled(operations, config.with_suffix(".sock")):
        yield operations


def lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("verb", WAITING)
async def test_json_is_the_steps_of_the_api(
    cli: Cli, config: Path, operations: FakeOperations, verb: tuple[str, ...]
) -> None:
    operations.steps = [
        {"event": "draining", "text": "é\x9b", "requests": [1]},
        {"event": "done", "ok": True, "text": "", "x": 1},
    ]
    result = await cli.later(*verb, "--json", "-c", config)
    assert (result.code, result.err, lines(result.out)) == (0, "", operations.steps)
    assert result.out.isascii()
    operations.steps[1] = {"event": "done", "ok": False, "text": "rolled back"}
    result = await cli.later(*verb, "--json", "-c", config)
    assert (result.code, result.err, lines(result.out)) == (1, "", operations.steps)
    operations.steps = operations.steps[:1]
    result = await cli.later(*verb, "--json", "-c", config)
    assert (result.code, lines(result.out)) == (1, operations.steps)
    assert result.err.startswith("the balancer ended before the ")
    operations.steps = [OperationFailed("it is stopping")]
    result = await cli.later(*verb, "--json", "-c", config)
    assert (result.code, result.out, result.err) == (1, "", "it is stopping\n")


async def test_what_has_one_answer(cli: Cli, config: Path, operations: FakeOperations) -> None:
    result = await cli.later("send", "web", "1", "--json", "-c", config)
    assert (result.code, lines(result.out)) == (0, [{"ok": True, "sent": 3}])
    result = await cli.later("plan", "--json", "-c", config)
    assert (result.code, lines(result.out)) == (0, [operations.planned])
    operations.planned["live"] = [{"key": "pool.web.weight", "old": "1", "new": "2"}]
    result = await cli.later("plan", "--json", "-c", config)
    assert (result.code, lines(result.out)) == (2, [operations.planned])
    operations.planned = {"event": "done", "ok": False, "text": "cluster.toml:1: wrong"}
    result = await cli.later("plan", "--json", "-c", config)
    assert (result.code, result.err, lines(result.out)) == (1, "", [operations.planned])


async def test_logs_are_an_object_per_line(cli: Cli, config: Path, operations: FakeOperations) -> None:
    operations.output.line("web", "web-0", 4, "stderr", "b\x1b]0;title\x07")
    operations.output.line("web", "web-1", 1, "stdout", "{}")
    first, second = lines((await cli.later("logs", "--json", "-c", config)).out)
    assert first.pop("time") > 1e9
    assert first == {
        **{"pool": "web", "backend": "web-0", "generation": 4},
        **{"stream": "stderr", "line": "b\x1b]0;title\x07"},
    }
    assert second["line"] == "{}"


def test_every_verb_that_talks_to_a_balancer_has_it(cli: Cli, config: Path) -> None:
    for verb in VERBS:
        assert ("--json" in cli(verb, "--help").out) == (verb not in ALONE), verb
    for words in WAITING:
        result = cli(*words, "--json", "-c", config)
        assert (result.code, result.out) == (1, "")
        assert result.err.startswith("no balancer is running with ")
