"""Durations, sizes and percentages as people write them, both ways.

Durations are float seconds (whole microseconds), sizes int bytes, percentages a fraction of 1. Every parser raises
ValueError with a message that says what was found and what to write instead.
"""

import re
from typing import Any

_MICROSECONDS = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
_BYTES = {
    "TiB": 1 << 40,
    "GiB": 1 << 30,
    "MiB": 1 << 20,
    "KiB": 1 << 10,
    "TB": 10**12,
    "GB": 10**9,
    "MB": 10**6,
    "KB": 10**3,
    "B": 1,
}
# Ten years: far beyond any use, and far below where adding seconds to a clock loses precision.
LONGEST = 3650 * 86_400.0
LARGEST = 1 << 60

_NUMBER = r"([0-9]{1,12})(?:\.([0-9]{1,3}))?"
_DURATION_PART = re.compile(_NUMBER + r"(ms|s|m|h|d)")
_SIZE = re.compile(_NUMBER + "(" + "|".join(_BYTES) + ")")
_PERCENTAGE = re.compile(_NUMBER + "%")
_PLAIN = re.compile(r"[0-9]+(?:\.[0-9]+)?")

DURATION_PATTERN = r"^([0-9]{1,12}(\.[0-9]{1,3})?d)?([0-9]{1,12}(\.[0-9]{1,3})?h)?([0-9]{1,12}(\.[0-9]{1,3})?m)?" + (
    r"([0-9]{1,12}(\.[0-9]{1,3})?s)?([0-9]{1,12}(\.[0-9]{1,3})?ms)?$"
)
SIZE_PATTERN = r"^(0|[0-9]{1,12}(\.[0-9]{1,3})?(B|KB|MB|GB|TB|KiB|MiB|GiB|TiB))$"
PERCENTAGE_PATTERN = r"^[0-9]{1,3}(\.[0-9]{1,3})?%$"
EXCESS_PATTERN = r"^[0-9]{1,5}(\.[0-9]{1,3})?%$"


def shown(value: Any) -> str:
    """A value found in the file, short enough for a message."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a table"
    if isinstance(value, list | tuple):
        return "a list"
    text = repr(value) if isinstance(value, str | int | float) else str(value)
    return text if len(text) <= 60 else text[:56] + " …" + text[-1]


def _thousandths(whole: str, decimals: str | None) -> int:
    return int(whole) * 1000 + int((decimals or "").ljust(3, "0") or "0")


def parse_duration(value: Any) -> float:
    """'1m30s' → 90.0. Units d, h, m, s, ms, from the largest to the smallest, each at most once."""
    if not isinstance(value, str):
        hint = f'; write "{value}s" for seconds' if isinstance(value, int) and not isinstance(value, bool) else ""
        raise ValueError(
            f'{shown(value)} is not a duration; expected a string with a unit, such as "5s" or "250ms"{hint}'
        )
    if _PLAIN.fullmatch(value):
        raise ValueError(f'{shown(value)} has no unit; write "{value}s" for seconds or "{value}ms" for milliseconds')
    parts = list(_DURATION_PART.finditer(value))
    units = [part[3] for part in parts]
    order = list(_MICROSECONDS)
    if "".join(part[0] for part in parts) != value or not parts or units != sorted(set(units), key=order.index):
        raise ValueError(f'{shown(value)} is not a duration; expected one such as "5s", "250ms", "1m30s" or "2h"')
    microseconds = sum(_thousandths(part[1], part[2]) * _MICROSECONDS[part[3]] // 1000 for part in parts)
    seconds = microseconds / 1_000_000
    if seconds > LONGEST:
        raise ValueError(f"{shown(value)} is too long; at most 3650d")
    return seconds


def format_duration(seconds: float) -> str:
    """90.0 → '1m30s'; the inverse of `parse_duration` up to a microsecond."""
    rest = round(seconds * 1_000_000)
    text = ""
    for unit, size in _MICROSECONDS.items():
        count, rest = divmod(rest, size)
        if unit == "ms" and rest:
            text += f"{count}.{rest:03d}".rstrip("0") + unit
        elif count:
            text += f"{count}{unit}"
    return text or "0s"


def parse_size(value: Any) -> int:
    """'16KiB' → 16384, '512MB' → 512000000, '0' → 0."""
    if not isinstance(value, str):
        raise ValueError(f'{shown(value)} is not a size; expected a string with a unit, such as "16KiB" or "512MB"')
    if value == "0":
        return 0
    if _PLAIN.fullmatch(value):
        raise ValueError(f'{shown(value)} has no unit; write "{value}B" for bytes or "{value}KiB" for 1024 bytes each')
    match = _SIZE.fullmatch(value)
    if match is None:
        raise ValueError(
            f"{shown(value)} is not a size; expected a number with B, KB, MB, GB, TB (thousands) or KiB, MiB, GiB, TiB (1024s)"
        )
    size, rest = divmod(_thousandths(match[1], match[2]) * _BYTES[match[3]], 1000)
    if rest:
        raise ValueError(f"{shown(value)} is not a whole number of bytes")
    if size > LARGEST:
        raise ValueError(f"{shown(value)} is too large; at most 1048576TiB")
    return size


def format_size(size: int) -> str:
    """16384 → '16KiB': the unit in which the number is shortest; the inverse of `parse_size`."""
    if size == 0:
        return "0"
    unit = min((unit for unit, factor in _BYTES.items() if size % factor == 0), key=lambda unit: size // _BYTES[unit])
    return f"{size // _BYTES[unit]}{unit}"


def parse_percentage(value: Any) -> float:
    """'50%' → 0.5, from 0% to 100%."""
    match = _PERCENTAGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a percentage; expected a string such as "50%"')
    share = _thousandths(match[1], match[2]) / 100_000
    if share > 1:
        raise ValueError(f'{shown(value)} is out of range; expected "0%" to "100%"')
    return share


def parse_excess(value: Any) -> float:
    """'100%' → 1.0: how much more than all of something, from 0% to 10000%."""
    match = _PERCENTAGE.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f'{shown(value)} is not a percentage; expected a string such as "100%"')
    excess = _thousandths(match[1], match[2]) / 100_000
    if excess > 100:
        raise ValueError(f'{shown(value)} is out of range; expected "0%" to "10000%"')
    return excess


def format_percentage(share: float) -> str:
    """0.5 → '50%'; the inverse of `parse_percentage`."""
    thousandths = round(share * 100_000)
    return f"{thousandths / 1000:.3f}".rstrip("0").rstrip(".") + "%"
