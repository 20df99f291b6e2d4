"""Bodies whose every part can be told from its neighbours."""

import random

KIB = 1024
MIB = 1024 * KIB
PATTERN = random.Random(1).randbytes(MIB)


def body_of(size: int) -> bytes:
    """So many bytes, none of them like its neighbours."""
    return (PATTERN * (size // MIB + 1))[:size]
