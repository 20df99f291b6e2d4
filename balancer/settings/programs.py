"""Which file a command's first word means; the same for checking the file and for starting the backend."""

import os
import sys
from collections.abc import Mapping, Sequence

from balancer.errors import BalancerError


class ProgramNotFound(BalancerError):
    """The first word of a command names no program that can be run."""


def search_path(environ: Mapping[str, str]) -> str:
    """The PATH on which programs are looked for, given the environment the balancer itself has.

    "python" in a command should be the interpreter that runs the balancer, also when its virtual environment was not activated
    (`/srv/app/venv/bin/balancer`, a systemd unit): its directory goes first. An environment that was activated, or an installation outside
    of any, must not be overruled: then it goes last, where it only helps when there is no other.
    """
    path = environ.get("PATH", os.defpath)
    own = os.path.dirname(sys.executable)
    if not own or own in path.split(os.pathsep):
        return path
    activated = environ.get("VIRTUAL_ENV", "")
    goes_first = sys.prefix != sys.base_prefix and activated in ("", sys.prefix)
    return os.pathsep.join((own, path) if goes_first else (path, own))


def resolve(words: Sequence[str], cwd: str, path: str) -> tuple[str, ...]:
    """The command with its program as an absolute path, found as execvp(3) would in a process whose directory is cwd.

    The path must be absolute in argv[0] too: an interpreter finds its virtual environment by it. Raises ProgramNotFound.
    """
    program = words[0]
    if os.sep in program:
        return (_runnable(os.path.join(cwd, program), program), *words[1:])
    for folder in path.split(os.pathsep):
        file = os.path.join(cwd, folder, program)
        if os.path.isfile(file) and os.access(file, os.X_OK):
            return (file, *words[1:])
    raise ProgramNotFound(f"program '{program}' was not found on PATH")


def _runnable(file: str, program: str) -> str:
    if os.path.isdir(file):
        raise ProgramNotFound(f"program '{program}' is a directory")
    if not os.path.isfile(file):
        raise ProgramNotFound(f"program '{program}' does not exist ({os.path.normpath(file)})")
    if not os.access(file, os.X_OK):
        raise ProgramNotFound(f"program '{program}' is not executable ({os.path.normpath(file)})")
    return os.path.normpath(file)
