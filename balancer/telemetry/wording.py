"""Values of an event's detail as people read them: requests, lists of things."""

from typing import Any


def worded(value: Any) -> str:
    """On one line: a request as `GET /path 0.3s`, a list with commas, anything else as it is."""
    if isinstance(value, list | tuple):
        return ", ".join(map(worded, value))
    if isinstance(value, dict) and "method" in value and "path" in value:
        since = f" {_seconds(value['seconds'])}s" if "seconds" in value else ""
        return f"{value['method']} {value['path']}{since}" + (" upgraded" if value.get("upgraded") else "")
    if isinstance(value, dict) and "request" in value and "crashes" in value:
        return (
            f"{value['request']} ({value['crashes']} crashes, {value['alone']} alone, {value['acquitted']} acquitted)"
        )
    return str(value)


def _seconds(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:.0f}"
