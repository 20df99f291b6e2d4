"""Keys that this version knows and cannot honour yet: setting one is an error, because nothing is parsed and ignored.

A feature that gets built takes its row out of the table.
"""

from collections.abc import Iterator

from pydantic import BaseModel

from balancer.settings.checks import Finding
from balancer.settings.model import Settings
from balancer.settings.problems import Key

Pattern = tuple[str, ...]

# Way to the key ("*": any name or number) → the values that are available.
_AVAILABLE: dict[Pattern, tuple[object, ...]] = {
    ("pool", "*", "restart", "watch"): ((),),
}


def findings(settings: Settings) -> Iterator[Finding]:
    """Every key whose value this version cannot honour."""
    for pattern, values in _AVAILABLE.items():
        for key, value in _matches(settings, pattern, ()):
            if value not in values:
                yield Finding(key, _message(key, value, values))


def _message(key: Key, value: object, values: tuple[object, ...]) -> str:
    if isinstance(value, str):
        others = f"; available: {', '.join(str(v) for v in values)}" if any(values) else ""
        return f"'{value}' is not available in this version{others}"
    return f"{key[-1]} is not available in this version"


def _matches(value: object, pattern: Pattern, key: Key) -> Iterator[tuple[Key, object]]:
    if not pattern:
        yield key, value
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from _matches(item, pattern[1:], (*key, name))
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _matches(item, pattern[1:], (*key, index))
    elif isinstance(value, BaseModel):
        yield from _matches(getattr(value, pattern[0]), pattern[1:], (*key, pattern[0]))
