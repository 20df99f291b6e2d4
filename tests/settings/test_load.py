import errno
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.settings.explain import tables
from balancer.settings.load import load, read
from balancer.settings.problems import Problem, SettingsError

_WRONG = Path(__file__).parent / "wrong"
_CONFIG = Path(__file__).parents[2] / "config"
_GOOD = '[listen.web]\naddress = "127.0.0.1:0"\n[pool.web]\ncommand = "app {port}"\n'


@pytest.mark.parametrize("file", sorted(_WRONG.glob("*.toml")), ids=lambda file: file.stem)
def test_everything_wrong_is_said_at_once(file: Path) -> None:
    with pytest.raises(SettingsError) as raised:
        read(file.read_text(), "cluster.toml", on_this_machine=False, environ={})
    expected = file.with_suffix(".txt").read_text().splitlines()
    assert [str(problem) for problem in raised.value.problems] == expected
    assert str(raised.value).splitlines() == expected


@pytest.mark.parametrize("file", sorted(_CONFIG.rglob("*.toml")), ids=lambda file: file.stem)
def test_the_sample_files_load(file: Path) -> None:
    settings = load(file, on_this_machine=False)
    assert settings.listen
    assert settings.reached_pools == set(settings.pool)


@pytest.mark.parametrize("name", ["demo", "minimal"])
def test_what_runs_out_of_the_box_also_finds_its_programs(name: str) -> None:
    # As started by /somewhere/venv/bin/balancer, with nothing activated and no python on PATH.
    load(_CONFIG / f"{name}.toml", environ={"PATH": "/nowhere"})


def _problem(path: Path) -> str:
    with pytest.raises(SettingsError) as raised:
        load(path)
    return str(raised.value).removeprefix(str(path))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    assert _problem(tmp_path / "none.toml") == ": there is no such file; balancer init writes one to start with"
    assert _problem(tmp_path) == ": is a folder; expected a file"
    (tmp_path / "latin.toml").write_bytes(b"# ok\n# caf\xe9\n")
    assert _problem(tmp_path / "latin.toml") == ":2: is not UTF-8 text, which TOML must be"
    (tmp_path / "large.toml").write_bytes(b"#" * (5 << 20))
    assert _problem(tmp_path / "large.toml") == ": is larger than 4MiB; expected a settings file"
    assert "\n" not in _problem(tmp_path / "a\nb.toml")


def test_a_file_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> NoReturn:  # root, as which tests may run, is refused nothing
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(sys.modules["balancer.settings.load"], "open", refuse, raising=False)
    assert _problem(tmp_path / "a.toml") == ": cannot be read: permission denied"


def test_paths_are_relative_to_the_folder_of_the_file(tmp_path: Path) -> None:
    text = _GOOD + 'cwd = "app"\n[listen.unix]\naddress = "unix:run/a.sock"\n[log]\naccess = "access.log"\n'
    settings = read(text, str(tmp_path / "x.toml"), on_this_machine=False, environ={})
    assert settings.path == tmp_path / "x.toml"
    assert settings.pool["web"].cwd == str(tmp_path / "app")
    assert settings.listen["unix"].address.path == str(tmp_path / "run/a.sock")
    assert settings.log.access == str(tmp_path / "access.log")
    assert settings.control_socket == str(tmp_path / "x.sock")


def test_messages_stay_on_one_line() -> None:
    with pytest.raises(SettingsError) as raised:
        read('"a\\nb\\u001b[31m" = 1\n[log]\nlevel = "x\\ny"', on_this_machine=False)
    assert len(str(raised.value).splitlines()) == len(raised.value.problems)
    assert "\x1b" not in str(raised.value)


@given(st.text(max_size=200) | st.text(alphabet='[]listenpool.web="{}\n1', max_size=60))
def test_any_text_gives_settings_or_problems(text: str) -> None:
    _settings_or_problems(text)


def test_absurd_documents() -> None:
    for text in (
        "a=" + "[" * 50_000,
        "a=" + "9" * 5000,
        "a." * 5000 + "a=1",
        "a=" + "{a=" * 500 + "1" + "}" * 500,
        "\ufeff",
    ):
        _settings_or_problems(text)
        _settings_or_problems(f"{_GOOD}\n[pool.web.health]\n{text}")


def _settings_or_problems(text: str) -> None:
    problems = _problems(text)
    assert problems is None or problems
    assert not any("pydantic" in str(problem) or "Input should" in str(problem) for problem in problems or ())


def _problems(text: str) -> tuple[Problem, ...] | None:
    """Of a text; None when it is good. Any other exception is what these tests look for."""
    try:
        read(text, on_this_machine=False)
    except SettingsError as error:
        return error.problems
    return None


_VALUES = st.recursive(
    st.sampled_from(
        [
            '"x"',
            '""',
            "0",
            "-1",
            "1e400",
            "nan",
            "true",
            "1979-05-27",
            '"5s"',
            '"1KiB"',
            '"50%"',
            '"auto"',
            '"/a"',
            '"{prot}"',
        ]
    ),
    lambda inner: (
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]")
        | inner.map(lambda item: f"{{a = {item}}}")
    ),
    max_leaves=4,
)
_KEYS = sorted({(header.replace("NAME", "web"), key) for header, section in tables() for key in section.model_fields})


@given(st.lists(st.tuples(st.sampled_from(_KEYS), _VALUES), max_size=6))
def test_any_value_at_any_key_gives_settings_or_problems(settings: list[tuple[tuple[str, str], Any]]) -> None:
    _settings_or_problems("\n".join(f"{header}\n{key} = {value}" for (header, key), value in settings))


@given(st.sampled_from(_KEYS), _VALUES)
def test_a_faulty_key_brings_no_second_problem_elsewhere(place: tuple[str, str], value: str) -> None:
    header, key = place
    if header.startswith(("[listen.web", "[[")) or "group" in header:
        return
    text = '[listen.web]\naddress = "127.0.0.1:0"\n[pool.web]\ncommand = "app"\n'
    text = (
        text.replace(f"{header}\n", f"{header}\n{key} = {value}\n")
        if header in text
        else f"{text}{header}\n{key} = {value}\n"
    )
    if text.count("command =") > 1:
        return
    for problem in _problems(text) or ():
        assert key in problem.key or "TOML" in problem.message, text
