"""Commands of scripted backends, for `command = …` in a pool of a test (`app.py` says what they answer)."""

import json
import sys
from pathlib import Path

APP = Path(__file__).with_name("app.py")


def app(*options: str) -> str:
    """The command as a TOML value: this interpreter, the scripted backend, {host}, {port} and `options`."""
    return json.dumps([sys.executable, str(APP), "--host", "{host}", "--port", "{port}", *options])


def pool(name: str, backends: int, *options: str, more: str = "") -> str:
    """A `[pool.NAME]` section of scripted backends; `more` are further lines of it or of its sub-sections."""
    return f"[pool.{name}]\ncommand = {app(*options)}\nbackends = {backends}\n{more}\n"


LISTEN = '[listen.web]\naddress = "127.0.0.1:0"\n\n'
