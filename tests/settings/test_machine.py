import os
from pathlib import Path

import pytest

from balancer.settings.load import read
from balancer.settings.problems import SettingsError

_HEAD = '[listen.web]\naddress = "127.0.0.1:0"\n'


def _problems(text: str, folder: Path, environ: dict[str, str] | None = None) -> list[str]:
    try:
        read(_HEAD + text, str(folder / "c.toml"), environ=environ or {"PATH": "/usr/bin:/bin"})
    except SettingsError as error:
        return [str(problem).replace(str(folder), "F") for problem in error.problems]
    return []


def test_programs_are_found_as_the_backend_would_find_them(tmp_path: Path) -> None:
    (tmp_path / "app").mkdir()
    for name in ("app/run", "run"):
        (tmp_path / name).write_text("#!/bin/sh\n")
    (tmp_path / "app/run").chmod(0o755)
    assert not _problems('[pool.web]\ncommand = "sh -c true"', tmp_path)
    assert not _problems('[pool.web]\ncommand = "./run"\ncwd = "app"', tmp_path)
    assert not _problems('[pool.web]\ncommand = "run"\nenv = {PATH = "app"}', tmp_path)
    assert _problems('[pool.web]\ncommand = "./run"', tmp_path) == [
        "F/c.toml:4: pool.web.command: program './run' is not executable (F/run)"
    ]
    assert _problems('[pool.web]\ncommand = "run"\ncwd = "app"', tmp_path) == [
        "F/c.toml:4: pool.web.command: program 'run' was not found on PATH"
    ]
    assert _problems('[pool.web]\ngroup = [{command = "./none"}, {command = "./app"}]', tmp_path) == [
        "F/c.toml:4: pool.web.group[0].command: program './none' does not exist (F/none)",
        "F/c.toml:4: pool.web.group[1].command: program './app' is a directory",
    ]


def test_folders_files_and_users(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    text = """
[pool.web]
command = "sh"
cwd = "none"
user = "nobody-of-that-name"

[proxy]
user = "nobody-of-that-name"

[admin]
token_file = "empty"
control_socket = "none/a.sock"

[log]
access = "none/access.log"
"""
    assert _problems(text, tmp_path) == [
        "F/c.toml:6: pool.web.cwd: 'F/none' is not a folder",
        "F/c.toml:7: pool.web.user: there is no user 'nobody-of-that-name'",
        "F/c.toml:10: proxy.user: there is no user 'nobody-of-that-name'",
        "F/c.toml:13: admin.token_file: 'F/empty' is empty; expected a token in it",
        "F/c.toml:14: admin.control_socket: 'F/none/a.sock' cannot be made: its folder does not exist",
        "F/c.toml:17: log.access: 'F/none/access.log' cannot be made: its folder does not exist",
    ]


def test_another_user_needs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = '[pool.web]\ncommand = "sh"\nuser = "root"'
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert not _problems(text, tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: 12345)
    assert _problems(text, tmp_path) == [
        "F/c.toml:5: pool.web.user: running as 'root' needs root; the balancer runs as another user"
    ]
