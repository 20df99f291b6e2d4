"""On which line of a TOML text each key stands.

A scanner beside the parser, because tomli gives values without places. It takes a text that tomli has accepted, so it
only needs to know where strings, lists and tables end; what it cannot read it skips.
"""

import re
from bisect import bisect_right

import tomli

from balancer.settings.problems import Key

_BLANK = re.compile(r"(?:[ \t\r\n]+|#[^\n]*)+")
_SPACE = re.compile(r"[ \t]*")
_BARE = re.compile(r"[A-Za-z0-9_-]+")
# A string, longest form first; the two quotes that may precede the closing three belong to the string.
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"(?!""))*"""("{0,2})'
    r"|'''(?:[^']|'(?!''))*'''('{0,2})"
    r'|"(?:[^"\\\n]|\\.)*"'
    r"|'[^'\n]*'",
    re.DOTALL,
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


class Lines:
    """The line of every key, table and list element of one text."""

    def __init__(self, text: str) -> None:
        # TOML ends lines with LF or CRLF; str.splitlines would count form feeds in comments too.
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._text = text
        self._lines: dict[Key, int] = {(): 1}
        self._lengths: dict[Key, int] = {}  # how many elements an array of tables has so far

    def of(self, key: Key) -> int:
        """The line of the key, or of the nearest table around it that the text has; 1 for the whole."""
        while key not in self._lines:
            key = key[:-1]
        return self._lines[key]

    def known(self) -> dict[Key, int]:
        """Every key of the text with its line."""
        return dict(self._lines)

    def scan(self) -> None:
        """Read the text. Raises ValueError, IndexError or RecursionError where it is not TOML after all."""
        table: Key = ()
        at = self._skip_blank(0)
        while at < len(self._text):
            if self._text.startswith("[[", at):
                parts, end = self._key(at + 2)
                table = self._open(parts, at, is_element=True)
                at = end + 2
            elif self._text[at] == "[":
                parts, end = self._key(at + 1)
                table = self._open(parts, at, is_element=False)
                at = end + 1
            else:
                at = self._pair(table, at)
            at = self._skip_blank(at)

    def _open(self, parts: tuple[str, ...], at: int, *, is_element: bool) -> Key:
        """A table's header: its full key, with the number of the latest element for every array of tables on the way."""
        key: Key = ()
        for depth, part in enumerate(parts, start=1):
            key = (*key, part)
            self._note(key, at)
            if is_element and depth == len(parts):
                self._lengths[key] = self._lengths.get(key, 0) + 1
            if key in self._lengths:
                key = (*key, self._lengths[key] - 1)
                self._note(key, at)
        return key

    def _pair(self, table: Key, at: int) -> int:
        parts, end = self._key(at)
        for depth in range(1, len(parts) + 1):
            self._note((*table, *parts[:depth]), at)
        return self._value((*table, *parts), self._skip_blank(end + 1))

    def _key(self, at: int) -> tuple[tuple[str, ...], int]:
        """The parts of a dotted key, and where what follows it stands."""
        parts = []
        while True:
            at = self._space(at)
            if match := _BARE.match(self._text, at):
                parts.append(match[0])
            elif match := _STRING.match(self._text, at):
                parts.append(next(iter(tomli.loads(f"{match[0]} = 0"))))
            else:
                raise ValueError("not a key")
            at = self._space(match.end())
            if not self._text.startswith(".", at):
                return tuple(parts), at
            at += 1

    def _value(self, key: Key, at: int) -> int:
        """Step over a value, noting what is inside it; gives where it ends."""
        opening = self._text[at : at + 1]
        if opening == "[":
            return self._list(key, at)
        if opening == "{":
            at = self._skip_blank(at + 1)
            while self._text[at] != "}":
                at = self._skip_blank(self._pair(key, at))
                if self._text[at] == ",":
                    at = self._skip_blank(at + 1)
            return at + 1
        match = _STRING.match(self._text, at) or _SCALAR.match(self._text, at)
        return match.end() if match else at + 1

    def _list(self, key: Key, at: int) -> int:
        at = self._skip_blank(at + 1)
        index = 0
        while self._text[at] != "]":
            self._note((*key, index), at)
            at = self._skip_blank(self._value((*key, index), at))
            index += 1
            if self._text[at] == ",":
                at = self._skip_blank(at + 1)
        return at + 1

    def _note(self, key: Key, at: int) -> None:
        self._lines.setdefault(key, bisect_right(self._starts, at))

    def _skip_blank(self, at: int) -> int:
        match = _BLANK.match(self._text, at)
        return match.end() if match else at

    def _space(self, at: int) -> int:
        match = _SPACE.match(self._text, at)
        return match.end() if match else at


def locate(text: str) -> Lines:
    """The lines of a text; where the scanner stumbles the rest is unknown, as a line is not worth failing for."""
    lines = Lines(text)
    try:
        lines.scan()
    except (ValueError, IndexError, RecursionError):
        pass
    return lines
