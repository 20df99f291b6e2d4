"""The balancer's own log: structlog's events as lines of text or JSON, through the console's one writer.

structlog is imported and lines are made in the writer's thread: at start the supervisor has processes to spawn, and later requests
for its attention that matter more.
"""

import json
import time
from collections.abc import Mapping, MutableMapping
from functools import partial
from typing import Any

from balancer.telemetry.colour import BOLD, DIM, LEVELS, RESET
from balancer.telemetry.console import Console, printable
from balancer.telemetry.wording import worded

_ORDER = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Levels debug, info, warning, error; formats "text" and "json". Both may be changed while it is in use."""

    def __init__(self, console: Console, level: str = "info", format: str = "text", coloured: bool = False) -> None:  # noqa: A002
        self._console = console
        self._coloured = coloured
        self._loggers: dict[bool, Any] = {}  # by whether JSON; the writer's thread alone uses it
        self.set(level, format)

    def set(self, level: str, format: str) -> None:  # noqa: A002
        """From now on."""
        self._least = _ORDER[level]
        self._json = format == "json"

    def debug(self, event: str, **fields: Any) -> None:
        """For whoever looks for a mistake."""
        self.write("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        """Something happened as it should."""
        self.write("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Something is not as it should be, and the balancer copes."""
        self.write("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        """Something failed. `exc_info=exception` adds its traceback."""
        self.write("error", event, fields)

    def write(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        """A line at the level of this name; an unknown one (a proxy's channel carries names) counts as an error."""
        if _ORDER.get(level, 40) < self._least:
            return
        entry = {"time": time.time(), "level": level if level in _ORDER else "error", **fields}
        self._console.write(partial(self._line, self._json, event, entry))

    def _line(self, as_json: bool, event: str, entry: dict[str, Any]) -> str:
        logger = self._loggers.get(as_json)
        if logger is None:
            logger = self._loggers[as_json] = _logger(_json if as_json else partial(_text, coloured=self._coloured))
        line: str = logger.msg(event, **entry)
        return line


def _logger(render: Any) -> Any:
    """A structlog logger that gives the line back instead of printing it."""
    import structlog

    return structlog.wrap_logger(
        structlog.ReturnLogger(),
        processors=[structlog.processors.format_exc_info, render],
        wrapper_class=structlog.BoundLogger,
    )


def _json(_: Any, __: str, entry: MutableMapping[str, Any]) -> str:
    """structlog's last processor for machines: time, level and event first."""
    first = {"time": round(entry.pop("time"), 6), "level": entry.pop("level"), "event": entry.pop("event", "")}
    return json.dumps({**first, **entry}, default=str)


def _text(_: Any, __: str, entry: MutableMapping[str, Any], coloured: bool) -> str:
    """structlog's last processor for people: `2026-11-20 09:00:00.123 info    web-3 ready generation=7`, a traceback below."""
    now = entry.pop("time")
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03}"
    level, event, exception = (
        entry.pop("level"),
        str(entry.pop("event", "")),
        entry.pop("exception", "") or entry.pop("traceback", ""),
    )
    fields = " ".join(f"{name}={_value(value)}" for name, value in entry.items() if value not in ("", None, []))
    if coloured:
        line = f"{DIM}{clock}{RESET} {LEVELS[level]}{level:<7}{RESET} {BOLD}{printable(event)}{RESET}"
        line += f" {DIM}{fields}{RESET}" if fields else ""
    else:
        line = f"{clock} {level:<7} {printable(event)}" + (f" {fields}" if fields else "")
    traceback = "\n".join(f"    {printable(part)}" for part in str(exception).splitlines())
    return f"{line}\n{traceback}" if traceback else line


def _value(value: Any) -> str:
    text = worded(value)
    return text if text.isprintable() and text and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)
