"""What is wrong with a settings file, as values: where, which key, what was found and what was expected."""

from collections.abc import Iterable
from dataclasses import dataclass

from balancer.errors import BalancerError

Key = tuple[str | int, ...]
"""The way to a value: ("pool", "web", "group", 0, "weight")."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. `line` counts from 1, 0 when the whole file is meant; `key` is "" likewise."""

    file: str
    line: int
    key: str
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return one_line(": ".join(part for part in (place, self.key, self.message) if part))


class SettingsError(BalancerError):
    """A file that cannot be used; `problems` holds everything that is wrong with it, in the order of its lines."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(problems, key=lambda p: (p.line, p.key, p.message)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


def dotted(key: Key) -> str:
    """As a person would write it: pool.web.group[0].weight; names that TOML wants quoted are quoted."""
    text = ""
    for part in key:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            bare = part.isascii() and part != "" and all(c.isalnum() or c in "_-" for c in part)
            text += ("." if text else "") + (part if bare else f'"{part}"')
    return text


def one_line(text: str) -> str:
    """The text with everything escaped that would move a terminal's cursor or start a new line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)
