"""Where the control socket of a file is, without judging the rest of it: a file with a mistake must not lock its owner out.

Agrees with `Settings.control_socket` on every file that can be loaded, and does not need the settings library.
"""

import os
from pathlib import Path

import tomli

from balancer.settings.problems import Problem, SettingsError


def control_socket(config: Path, runtime_directory: str = "") -> Path:
    """The socket's absolute path. runtime_directory: $RUNTIME_DIRECTORY. Raises SettingsError when the file is not there."""
    path = Path(os.path.abspath(config))
    try:
        named = tomli.loads(path.read_text(encoding="utf-8-sig"))["admin"]["control_socket"]
    except OSError as error:
        raise SettingsError([Problem(str(config), 0, "", error.strerror or str(error))]) from None
    except (ValueError, KeyError, TypeError):
        named = ""
    if isinstance(named, str) and named:
        return Path(os.path.abspath(path.parent / named))
    return default_socket(path, runtime_directory)


def default_socket(path: Path, runtime_directory: str) -> Path:
    """For a file (absolute path) that names none: under $RUNTIME_DIRECTORY when set, else beside the file."""
    # systemd joins several directories with colons (systemd.exec(5)); the first is the unit's main one.
    folder = runtime_directory.partition(":")[0]
    return Path(folder, "balancer.sock") if folder else path.with_suffix(".sock")
