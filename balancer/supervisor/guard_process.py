"""What outlives a supervisor that is killed, for as long as it takes to kill what it left: `python guard_process.py`, started by `guard`.

PR_SET_PDEATHSIG reaches the process that we started, not what that one started in turn: the app behind `sh -c` or `npm start`,
the workers of gunicorn. Reads lines from stdin, "+PID" and "-PID" for a process group that begins or has ended; when the other
end closes, whoever still stands in the list is killed. Standard library only, and little of it: it must be there in no time.
"""

import os
import signal
import sys


def main() -> None:
    """Until stdin ends, which is when the supervisor does."""
    try:
        with open("/proc/self/comm", "w") as name:
            name.write("balancer guard")
    except OSError:
        pass
    groups: set[int] = set()
    for line in sys.stdin.buffer:
        group = int(line[1:])
        if line.startswith(b"+"):
            groups.add(group)
        else:
            groups.discard(group)
    for group in groups:
        try:
            os.killpg(group, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass


if __name__ == "__main__":
    main()
