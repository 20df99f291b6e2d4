"""The hard limit of memory, `limits.memory`: who is beyond it. `recycle` looks after the soft one, and looks at both."""

from collections.abc import Mapping

from balancer.settings.model_pool import Pool


def hard_limit(pools: Mapping[str, Pool], name: str) -> int:
    """Resident bytes that a backend of this pool may have; 0: any number."""
    pool = pools.get(name)
    return pool.limits.memory if pool is not None else 0


def excess(memory: int, limit: int) -> str:
    """Why a process group with so many resident bytes is to be killed; "" when it is not. limit: 0 for none. Pure."""
    return f"{megabytes(memory)} of memory, its limit is {megabytes(limit)}" if 0 < limit < memory else ""


def megabytes(size: int) -> str:
    """Bytes for people: "61 MB", "900 kB"."""
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
