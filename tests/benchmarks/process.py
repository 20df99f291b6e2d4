"""Programs under measurement: started on a core of their own, without root's rights, stopped at the end."""

import os
import resource
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

PATIENCE = 10.0  # seconds for a start and for a stop


def cores() -> tuple[int, int]:
    """(the core of the peers, the core of origin and load); the same one twice on a machine with one."""
    usable = sorted(os.sched_getaffinity(0))
    return usable[0], usable[-1]


def raise_open_files() -> None:
    """As many descriptors as this process may have; its children inherit that."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Process:
    """One running program. Its output goes to `folder`/NAME.log."""

    def __init__(
        self, name: str, command: Sequence[str], core: int, folder: Path,
        *, env: Mapping[str, str] | None = None, as_nobody: bool = True,
    ) -> None:  # fmt: skip
        self.name = name
        self.log = folder / f"{name}.log"
        drop = as_nobody and os.geteuid() == 0
        if drop:
            import grp
            import pwd

            user, group = pwd.getpwnam("nobody").pw_uid, grp.getgrnam("nogroup").gr_gid
            for path in (folder, *folder.iterdir()):
                os.chown(path, user, group)
        with self.log.open("wb") as log:
            self.popen = subprocess.Popen(
                ["taskset", "-c", str(core), *command],
                stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, cwd=folder,
                env={**os.environ, "HOME": str(folder), **(env or {})},
                user="nobody" if drop else None, group="nogroup" if drop else None, extra_groups=[] if drop else None,
            )  # fmt: skip

    def wait_for(self, port: int) -> None:
        """Until it accepts connections. Raises RuntimeError with its output when it does not."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and self.popen.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.01)  # another program's start: there is no event to wait for
            else:
                return
        self.stop()
        raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text(errors='replace')}")

    def stop(self) -> None:
        """SIGTERM, then SIGKILL."""
        self.popen.terminate()
        try:
            self.popen.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


def temporary_folder() -> Path:
    """A new folder that the unprivileged programs may enter."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    folder.chmod(0o755)
    return folder
