"""The clock that snapshots carry."""

import time


def now() -> float:
    """CLOCK_MONOTONIC seconds, the same for all processes: trio's own clock starts at a random point."""
    return time.monotonic()
