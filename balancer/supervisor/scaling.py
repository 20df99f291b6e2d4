"""More or fewer backends in a pool, until the next reload. Pure."""

from balancer.admin.operations import BadArguments
from balancer.settings.cpus import usable_cpus
from balancer.settings.model_pool import Pool

MOST = 1000  # as `backends` in the file


def counted(wanted: int | str) -> int:
    """The number that is wanted; "auto" and "max" mean one per usable CPU, now. Raises BadArguments for any other word."""
    if wanted in ("auto", "max"):
        return usable_cpus()
    if isinstance(wanted, str):
        raise BadArguments(f"{wanted[:40]!r} is not a number of backends; expected one, or 'auto'")
    return wanted


def elastic_group(pool: Pool) -> str:
    """The name of the group that grows and shrinks: the last one that is spawned here. Raises BadArguments if none is."""
    names = [group.name for group in pool.groups if group.is_spawned]
    if not names:
        raise BadArguments("its backends run elsewhere; their number is the file's")
    return names[-1]


def scaled(pool: Pool, count: int) -> Pool:
    """The pool with so many backends in all its groups together. Raises BadArguments when its elastic group cannot have so many."""
    name = elastic_group(pool)
    others = sum(group.backend_count for group in pool.groups if group.name != name)
    if not 1 <= count - others <= MOST:
        fixed = f" ({others} of them in other groups)" if others else ""
        raise BadArguments(f"{count} is out of range; expected {others + 1} to {others + MOST} backends{fixed}")
    if not pool.group:
        return pool.model_copy(update={"backends": count})
    number = [group.name for group in pool.groups].index(name)
    groups = list(pool.group)
    groups[number] = groups[number].model_copy(update={"backends": count - others})
    return pool.model_copy(update={"group": tuple(groups)})
