"""{port}, {host}, {name}, {index} and {pool} in commands and environments.

Only these five are replaced. Every other brace stays as it is, so JSON or a template may stand in a command without escaping.
"""

import difflib
import re

NAMES = ("port", "host", "name", "index", "pool")

_KNOWN = re.compile(r"\{(" + "|".join(NAMES) + r")\}")
_WORD = re.compile(r"(?<!\$)\{([A-Za-z][A-Za-z_-]{0,20})\}")


def fill(text: str, *, port: int, host: str, name: str, index: int, pool: str) -> str:
    """The text with the five filled in: {name} is the backend's slot ("web-3"), {index} its number in the pool."""
    values = {"port": str(port), "host": host, "name": name, "index": str(index), "pool": pool}
    # One pass: what a value brings in is never filled again.
    return _KNOWN.sub(lambda match: values[match[1]], text)


def near_misses(text: str) -> list[tuple[str, str]]:
    """Words in braces that are none of the five but look like one, each once: [("{prot}", "{port}")]."""
    found = {}
    for match in _WORD.finditer(text):
        near = difflib.get_close_matches(match[1].lower(), NAMES, n=1, cutoff=0.65)
        if near and match[1] not in NAMES:
            found[match[0]] = f"{{{near[0]}}}"
    return list(found.items())
