"""A span of time on the command line: plain seconds, or with a unit as in the file."""

import re
from collections.abc import Callable
from typing import Final

import click

from balancer.settings.units import format_duration, parse_duration

_PLAIN: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?|\.[0-9]{1,9}")
_LONGEST: Final = 366 * 86_400.0  # what every call that waits can take
Callback = Callable[[click.Context, click.Parameter, str | None], float | None]


def seconds(least: float = 0.0, most: float = _LONGEST) -> Callback:
    """A callback for an option: "2", "0.5", "500ms", "1m30s" → float seconds from `least` to `most`. It raises BadParameter."""

    def convert(_: click.Context, __: click.Parameter, value: str | None) -> float | None:
        if value is None:
            return None
        try:
            found = float(value) if _PLAIN.fullmatch(value) else parse_duration(value)
        except ValueError:
            raise click.BadParameter(
                f"{value!r} is not a time; expected seconds, or with a unit, such as 500ms or 1m30s"
            ) from None
        if not least <= found <= most:
            span = f"{format_duration(least)} to {format_duration(most)}"
            raise click.BadParameter(f"{value} is out of range; expected {span}")
        return found

    return convert
