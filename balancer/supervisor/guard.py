"""No orphans: a process of a few megabytes that knows every process group, and kills them when the supervisor has died.

It learns of that by the end of a pipe, whose only writing end is ours: a supervisor that replaces itself has to hand it on.
"""

import atexit
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

_PROGRAM: Final = Path(__file__).with_name("guard_process.py")
# From a terminal, or from somebody who stops everything of that name: its work begins after that.
_DEAF_TO: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_PATIENCE: Final = 2.0  # seconds for it to end


class Guard:
    """Started with the first group, and again should somebody kill it."""

    def __init__(self) -> None:
        self._groups: set[int] = set()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of its process, None when there is none."""
        return self._process.pid if self._process is not None else None

    def add(self, group: int) -> None:
        """This process group is to die with us; without a guard to be had, at least its leader does (PR_SET_PDEATHSIG)."""
        self._groups.add(group)
        if self._process is not None:
            self._say(f"+{group}\n")
            return
        try:
            self._start()
        except OSError:
            pass  # out of processes or descriptors: tried again with the next group

    def remove(self, group: int) -> None:
        """This one has ended; to be called before its number can be another's, that is, before its leader is reaped."""
        self._groups.discard(group)
        if self._process is not None:
            self._say(f"-{group}\n")

    def close(self) -> None:
        """Let it end, and kill what is left of the groups with it."""
        if self._process is not None:
            self._end(self._process)

    def _start(self) -> None:
        # A blocked signal stays blocked in what is started meanwhile, from its first instruction on.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _DEAF_TO)
        try:
            # Isolated and without site: it starts in a hundredth of a second and takes no memory to speak of.
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", str(_PROGRAM)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._say("".join(f"+{group}\n" for group in self._groups))

    def _say(self, lines: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            os.write(self._process.stdin.fileno(), lines.encode())
        except (BrokenPipeError, BlockingIOError):
            # Killed, or stopped: another one takes its place.
            self._process.kill()
            self._end(self._process)
            if self._groups:
                self._start()

    def _end(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = None
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


# One for all that this process starts, as the kernel's own death signal is.
GUARD: Final = Guard()
atexit.register(GUARD.close)
