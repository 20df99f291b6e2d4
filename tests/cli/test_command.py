"""The command as a whole: where the file comes from, mistakes on the command line, exit codes, quick starts."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from balancer import __version__
from balancer.cli.command import VERBS
from tests.cli.run import MINIMAL, Cli


def test_the_file_is_named_before_or_after_the_verb_or_by_the_environment(
    cli: Cli, config: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for args in (("--config", config, "check"), ("check", "--config", config), ("check", "-c", config)):
        result = cli(*args)
        assert (result.code, result.out) == (0, "ok\n")
    result = cli("--config", tmp_path / "none.toml", "check", "--config", config)
    assert result.code == 0
    monkeypatch.chdir(tmp_path)
    assert cli("check").code == 0
    monkeypatch.setenv("BALANCER_CONFIG", str(tmp_path / "none.toml"))
    result = cli("check")
    assert (result.code, result.out) == (2, "")
    assert "none.toml: " in result.err
    assert cli("check", "-c", config).code == 0


def test_every_problem_of_a_file_is_a_line_and_nothing_starts(cli: Cli, config: Path) -> None:
    config.write_text(MINIMAL + 'weigth = 2\npolicy = "wrr"\n')
    for verb in (("check",), ("run",), ()):
        result = cli("--config", config, *verb)
        assert (result.code, result.out) == (2, "")
        first, second = result.err.splitlines()
        assert ":6: pool.web.weigth: " in first
        assert "did you mean 'weight'" in first
        assert ":7: pool.web.policy: " in second


@pytest.mark.parametrize(
    ("args", "part"),
    [
        (["statsu"], "did you mean 'status'?"),
        (["fly"], "there is no verb 'fly'"),
        (["status", "--jsn"], "did you mean '--json'?"),
        (["--confg", "x"], "did you mean '--config'?"),
        (["status", "more"], "unexpected extra argument"),
        (["logs", "-n", "many"], "'many' is not a valid integer"),
        (["check", "--config"], "requires an argument"),
    ],
)
def test_mistakes_on_the_command_line_are_one_line(cli: Cli, args: list[str], part: str) -> None:
    result = cli(*args)
    assert (result.code, result.out) == (2, "")
    assert len(result.err.splitlines()) == 1
    assert part.lower() in result.err.lower()


def test_help_names_every_verb(cli: Cli) -> None:
    for option in ("-h", "--help"):
        text = cli(option).out
        assert all(f"  {verb} " in text for verb in VERBS)
    assert cli("--version").out == f"balancer {__version__}\n"
    for verb in VERBS:
        result = cli(verb, "-h")
        assert result.code == 0
        assert VERBS[verb].split()[0] in result.out


def test_init_never_overwrites_and_what_it_writes_is_good(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "new.toml"
    assert cli("init", path).code == 0
    before = path.read_text()
    assert cli("check", "--config", path).out == "ok\n"
    result = cli("init", path)
    assert result.code == 1
    assert "already there" in result.err
    assert path.read_text() == before
    assert cli("init", tmp_path / "nowhere" / "new.toml").code == 1


def test_every_key_is_explained(cli: Cli, tmp_path: Path) -> None:
    result = cli("check", "--explain", "--config", tmp_path / "none.toml")
    assert result.code == 0
    assert "[pool.web.health]" in result.out
    assert 'interval = "2s"' in result.out


def test_the_schema_is_json(cli: Cli) -> None:
    assert "pool" in json.loads(cli("schema").out)["properties"]


@pytest.mark.parametrize("verb", ["status", "reload", "stop", "logs", "events"])
def test_nobody_running(cli: Cli, config: Path, verb: str) -> None:
    result = cli(verb, "--config", config)
    assert (result.code, result.out) == (1, "")
    assert f"no balancer is running with {config}" in result.err
    # A mistake in the file must not hide that, or lock its owner out of what runs.
    config.write_text("[pool\n")
    assert cli(verb, "--config", config).code == 1
    config.unlink()
    assert cli(verb, "--config", config).code == 2


def test_a_start_imports_nothing_that_it_does_not_need() -> None:
    program = (
        "import sys, balancer.cli.command, balancer.cli.run; "
        "print({'rich', 'structlog', 'prometheus_client', 'pydantic', 'http.client', 'balancer.cli.status'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"


def test_an_interrupt_while_modules_are_read_is_no_traceback() -> None:
    program = """
import sys, balancer.cli
class Impatient:
    def find_spec(self, name, path, target=None):
        if name == "click":
            raise KeyboardInterrupt
sys.meta_path.insert(0, Impatient())
balancer.cli.main()
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (found.returncode, found.stdout, found.stderr) == (130, "", "")


def test_closed_standard_streams_are_filled() -> None:
    program = """
import os, sys, balancer.cli
sys.argv = ["balancer", "--version"]
try:
    balancer.cli.main()
except SystemExit:
    os._exit(min(os.pipe()))
"""
    for closed in ("<&-", "2>&-", "<&- >&- 2>&-"):
        found = subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", program], timeout=30)
        assert found.returncode == 3, closed
