"""The balancer's own log: structlog's events as lines of text or JSON, through the console's one writer.

structlog is imported with the first line that is written, not at start: the supervisor spawns first.
"""

import json
import time
from collections.abc import Mapping, MutableMapping
from typing import Any

from balancer.telemetry.colour import BOLD, DIM, LEVELS, RESET
from balancer.telemetry.console import Console, printable

_ORDER = {"debug": 10, "info": 20, "warning": 30, "error": 40}


class Log:
    """Levels debug, info, warning, error; formats "text" and "json". Both may be changed while it is in use."""

    def __init__(self, console: Console, level: str = "info", format: str = "text", coloured: bool = False) -> None:  # noqa: A002
        self._console = console
        self._coloured = coloured
        self._logger: Any = None
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
        if self._logger is None:
            self._logger = self._make()
        getattr(self._logger, level if level in _ORDER else "error")(event, **fields)

    def _make(self) -> Any:
        import structlog

        return structlog.wrap_logger(
            None,
            processors=[structlog.processors.add_log_level, structlog.processors.format_exc_info, self._render],
            wrapper_class=structlog.make_filtering_bound_logger(0),
        )

    def _render(self, _: Any, __: str, entry: MutableMapping[str, Any]) -> str:
        """structlog's last processor: the line goes to the console here, nothing is left for its logger to print."""
        import structlog

        now = time.time()
        if self._json:
            line = json.dumps({"time": round(now, 6), "level": entry.pop("level"), **entry}, default=str)
        else:
            line = _text(now, dict(entry), self._coloured)
        for part in line.split("\n"):
            self._console.write(part)
        raise structlog.DropEvent


def _text(now: float, entry: dict[str, Any], coloured: bool) -> str:
    """`2026-11-20 09:00:00.123 info    web-3 ready generation=7`, a traceback in lines of its own below."""
    clock = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03}"
    level, event, exception = entry.pop("level"), str(entry.pop("event", "")), entry.pop("exception", "")
    fields = " ".join(f"{name}={_value(value)}" for name, value in entry.items() if value not in ("", None))
    if coloured:
        line = f"{DIM}{clock}{RESET} {LEVELS[level]}{level:<7}{RESET} {BOLD}{printable(event)}{RESET}"
        line += f" {DIM}{fields}{RESET}" if fields else ""
    else:
        line = f"{clock} {level:<7} {printable(event)}" + (f" {fields}" if fields else "")
    traceback = "\n".join(f"    {printable(part)}" for part in str(exception).splitlines())
    return f"{line}\n{traceback}" if traceback else line


def _value(value: Any) -> str:
    text = str(value)
    return text if text.isprintable() and text and not set(text) & set(' "=') else json.dumps(text, ensure_ascii=False)
