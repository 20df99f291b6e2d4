"""The control groups above this process, of either version: where the kernel says what it may use (cgroups(7))."""

from collections.abc import Iterator
from pathlib import Path

MOUNT = Path("/sys/fs/cgroup")
OWN = Path("/proc/self/cgroup")


def folders(controller: str, cgroups: Path = MOUNT, own: Path = OWN) -> Iterator[tuple[int, Path]]:
    """(version, folder) from its own group up; the mounted root alone when the path is not visible (containers)."""
    for line in read(own).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            yield from ((2, folder) for folder in _upwards(cgroups, path))
        elif controller in controllers.split(","):
            for mount in dict.fromkeys((cgroups / controllers, cgroups / controller)):
                yield from ((1, folder) for folder in _upwards(mount, path))


def read(path: Path) -> str:
    """Its text; "" when it is not there."""
    try:
        return path.read_text()
    except OSError:
        return ""


def _upwards(root: Path, path: str) -> Iterator[Path]:
    folder = root / path.strip("/")
    while folder != root:
        yield folder
        folder = folder.parent
    yield root
