"""From a file to settings, or to everything that is wrong with it at once."""

import os
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import tomli
from pydantic import ValidationError

from balancer.settings import checks, handovers, machine, tls
from balancer.settings.checks import Finding
from balancer.settings.explain import keys_beside, message, nearest
from balancer.settings.locate import Lines, locate
from balancer.settings.model import Settings
from balancer.settings.problems import Key, Problem, SettingsError, dotted

# A settings file has a few kilobytes; one of many megabytes is another file given by mistake.
LARGEST_FILE = 4 * 1024 * 1024


def load(
    path: str | os.PathLike[str], *, on_this_machine: bool = True, environ: Mapping[str, str] = os.environ
) -> Settings:
    """Read and check a file. on_this_machine: also look for its programs, folders, files and users.

    Raises SettingsError with every problem, in the order of the lines.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            # Editors on Windows begin a file with a byte order mark, which means nothing in UTF-8 and which tomli refuses.
            content = file.read(LARGEST_FILE + 1).removeprefix(BOM_UTF8)
        text = content.decode("utf-8")
    except FileNotFoundError:
        hint = "; balancer init writes one to start with"
        raise SettingsError([Problem(name, 0, "", f"there is no such file{hint}")]) from None
    except IsADirectoryError:
        raise SettingsError([Problem(name, 0, "", "is a folder; expected a file")]) from None
    except OSError as error:
        raise SettingsError([Problem(name, 0, "", f"cannot be read: {machine.reason(error)}")]) from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SettingsError([Problem(name, line, "", "is not UTF-8 text, which TOML must be")]) from None
    except ValueError:
        raise SettingsError([Problem(name, 0, "", "is not the name of a file")]) from None
    if len(content) > LARGEST_FILE:
        raise SettingsError([Problem(name, 0, "", "is larger than 4MiB; expected a settings file")])
    return read(text, name, on_this_machine=on_this_machine, environ=environ)


def read(
    text: str, name: str = "cluster.toml", *, on_this_machine: bool = True, environ: Mapping[str, str] = os.environ
) -> Settings:
    """As `load`, from the text of a file of that name; relative paths are relative to its folder. Raises SettingsError."""
    document = _parse(text, name)
    lines = locate(text)
    problems: list[Problem] = []
    faulty: set[Key] = set()
    while True:
        try:
            settings = Settings.from_document(document, Path(name), environ.get("RUNTIME_DIRECTORY", ""))
            break
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                key: Key = tuple(detail["loc"])
                problems.append(_problem(name, lines, key, message(detail)))
                # Judged again without it, so that what is wrong elsewhere is found in the same run.
                faulty |= {*_void(key), _take_out(document, key)}
    between = (part.findings(settings) for part in (checks, handovers, tls))
    found = chain.from_iterable(between)
    if on_this_machine:
        found = chain(found, machine.findings(settings, environ), tls.file_findings(settings))
    problems += [_problem(name, lines, f.key, f.message) for f in _sound(found, faulty)]
    if problems:
        raise SettingsError(problems)
    return settings


def _parse(text: str, name: str) -> dict[str, Any]:
    try:
        return tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        words = error.msg[:1].lower() + error.msg[1:]
        problem = Problem(name, error.lineno, "", f"not valid TOML: {words} (column {error.colno})")
    except RecursionError:
        problem = Problem(name, 0, "", "not valid TOML: nested too deeply")
    except ValueError as error:
        # A number with thousands of digits is refused by int() itself.
        problem = Problem(name, 0, "", f"not valid TOML: {error}")
    raise SettingsError([problem])


def _problem(name: str, lines: Lines, key: Key, text: str) -> Problem:
    return Problem(name, lines.of(key), dotted(key), text)


def _void(key: Key) -> set[Key]:
    """The keys about which nothing can be said now: the faulty one, and the one that was probably meant."""
    meant = nearest(str(key[-1]), keys_beside(key)) if key else ""
    return {key, (*key[:-1], meant)} if meant else {key}


def _take_out(document: dict[str, Any], key: Key) -> Key:
    """Remove the faulty value; gives the key of what is gone."""
    # A list goes as a whole: without one element, those behind it would be found on wrong lines.
    while isinstance(key[-1], int):
        key = key[:-1]
    table: Any = document
    for part in key[:-1]:
        table = table.get(part, {}) if isinstance(table, dict) else table[part]
    if isinstance(table, dict):
        table.pop(key[-1], None)
    return key


def _sound(found: Iterator[Finding], faulty: set[Key]) -> Iterator[Finding]:
    """Only findings that were not judged from a faulty key, or from the default that stood in for it."""
    for finding in found:
        about = finding.about or (finding.key,)
        if not any(_overlap(key, bad) for key in about for bad in faulty):
            yield finding


def _overlap(pattern: Key, key: Key) -> bool:
    """Whether one is the other or a table around it; "*" in the pattern is any name or number."""
    return all(one in (other, "*") for one, other in zip(pattern, key, strict=False))
