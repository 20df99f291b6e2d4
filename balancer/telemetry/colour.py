"""The few terminal colours that are used without the library for tables."""

from typing import Final

RESET: Final = "\x1b[0m"
DIM: Final = "\x1b[2m"
BOLD: Final = "\x1b[1m"
LEVELS: Final = {"debug": DIM, "info": "\x1b[32m", "warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31;1m"}

# Red is kept for errors; the rest reads on dark and light backgrounds.
_NAMES: Final = ("\x1b[36m", "\x1b[33m", "\x1b[32m", "\x1b[35m", "\x1b[34m", "\x1b[96m", "\x1b[95m", "\x1b[94m")


def colour_of(index: int) -> str:
    """The colour of the index-th name."""
    return _NAMES[index % len(_NAMES)]
