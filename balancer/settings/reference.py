"""The whole file with every key at its default and what the model says about it: config/full.toml.

`python -m balancer.settings.reference` prints it; a test holds the file to it.
"""

import json
import sys
import textwrap
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from balancer.settings.explain import tables
from balancer.settings.model import Certificate

_HEAD = """\
# Every key with its default. A file needs only what differs; the smallest is config/minimal.toml.
#
# Durations are strings with a unit ("250ms", "5s", "1m30s"), sizes too ("16KiB", "512MB"). Paths are relative to the folder
# of the file. A line that starts with "#" and no space is a key or table that is not there by default.
"""
_COLUMN, _WIDTH = 36, 120
# Tables that are something else when they are there than when they are not.
_ONLY_WHEN_WANTED = ("tls", "route", "group")
# What stands there instead of a default that is empty.
_EXAMPLES = {
    ("pool.NAME", "command"): 'command = "python -m http.server {port} --bind {host}"',
    ("listen.NAME.tls", "certificates"): 'certificates = [{cert = "site.pem", key = "site.key"}]',
    ("route", "pool"): 'pool = "web"',
}


def reference() -> str:
    """The text of config/full.toml."""
    return _HEAD + "".join(_table(header, section) for header, section in tables() if section is not Certificate)


def _table(header: str, section: type[BaseModel]) -> str:
    path = header.strip("[]")
    mark = "#" if any(part in path.split(".") for part in _ONLY_WHEN_WANTED) else ""
    title = (section.__doc__ or "").strip().splitlines()[0]
    lines = [f"# {title}", mark + header.replace("NAME", "web")]
    for name, field in section.model_fields.items():
        if not _is_table(field.default_factory, path, name):
            setting = _EXAMPLES.get((path, name), f"{name} = {_toml(field.default)}")
            lines += _explained(mark + setting, field.description or "")
    return "\n" + "\n".join(lines) + "\n"


def _is_table(factory: Any, path: str, name: str) -> bool:
    below = f"{path}.{name}"
    return factory is not None or (
        below.split(".")[-1] != "certificates" and any(header.strip("[]") == below for header, _ in tables())
    )


def _explained(setting: str, description: str) -> Iterator[str]:
    """The setting with its comment beside it, and below it as far as that is long."""
    comment = textwrap.wrap(description, _WIDTH - _COLUMN - 2, break_on_hyphens=False)
    if len(setting) >= _COLUMN:
        yield setting
        setting = ""
    for line in comment:
        yield f"{setting:{_COLUMN}}# {line}"
        setting = ""


def _toml(default: Any) -> str:
    if isinstance(default, tuple):
        return "[]"
    return json.dumps(default)


if __name__ == "__main__":
    sys.stdout.write(reference())
