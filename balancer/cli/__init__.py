"""The command line: one file per verb, imported when it is used, since `balancer --config F` shall serve within a second."""

import os
import sys

from balancer.cli.exits import INTERRUPTED


def main() -> None:
    """The `balancer` command. Exit codes: 0 done, 1 failed, 2 the command line or the file is wrong."""
    _fill_standard_streams()
    try:
        from balancer.cli.command import entry

        entry()
    except KeyboardInterrupt:
        # While the modules were still being read: as afterwards, without a word.
        raise SystemExit(INTERRUPTED) from None


def _fill_standard_streams() -> None:
    """Started with one of them closed, a socket would take its number, and whoever writes to it would write to a client."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            # The lowest free number is this one: those below it are open by now.
            os.open(os.devnull, os.O_RDWR)
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))
