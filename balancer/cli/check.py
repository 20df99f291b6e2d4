"""`balancer check`: is the file good, and is there room for it? And what may stand in one?"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from time import time
from typing import TYPE_CHECKING

import click

from balancer.cli.command import VERBS, config_option
from balancer.errors import BalancerError

if TYPE_CHECKING:
    from balancer.settings.memory import Need, Room
    from balancer.settings.model import Settings

SILENCE = 2.0  # seconds for a running balancer to say how large its backends are; it is not what was asked for


@click.command("check", help=VERBS["check"])
@click.option("--explain", is_flag=True, help="Print every key with its default and what it is for, instead.")
@config_option
def verb(config: Path, explain: bool) -> None:
    if explain:
        from balancer.settings.reference import reference

        click.echo(reference(), nl=False)
        return
    from balancer.settings.cpus import usable_cpus
    from balancer.settings.load import load
    from balancer.settings.memory import needs, room
    from balancer.settings.tls import warnings
    from balancer.supervisor.limits import crowd

    settings = load(config)
    measured = _measured(settings)
    # The memory of what runs is in use, and will be the successors'.
    there, taken = room(), sum(map(sum, measured.values()))
    wanted = needs(settings, measured)
    for line in estimate(wanted, there, taken):
        click.echo(line, err=True)
    crowded = crowd(sum(need.backends for need in wanted), usable_cpus())
    for line in [*warnings(settings, time()), *([crowded] if crowded else [])]:
        click.echo(f"warning: {line}", err=True)
    click.echo("ok")


def estimate(wanted: "Sequence[Need]", there: "Room", taken: int = 0) -> Iterator[str]:
    """In words, a line for each pool, one for all of them, and one if that is too much.

    taken: bytes that the backends which run now have; theirs is the room too.
    """
    from balancer.cli.status import plural, size
    from balancer.settings.memory import peak
    from balancer.settings.units import format_size  # a limit is shown as the file has it

    if not wanted or not there.total:
        return
    available = min(there.total, there.available + taken)
    expected = peak([(need, need.expected) for need in wanted])
    unknown = [need for need in wanted if not need.expected]
    # Surges never come together, so with a pool that is known beside them this says rather too little than too much.
    places = peak([(need, 1) for need in unknown])
    for need in wanted:
        known = [f"{size(need.measured)} each now"] if need.measured else []
        if need in unknown:
            known += [f"unknown before they run, room for {size(max(0, available - expected) / places)} each"]
        known += [f"{format_size(need.limit)} each at most (restart.max_memory)"] if need.limit else []
        known += [f"killed above {format_size(need.hard)} each (limits.memory)"] if need.hard else []
        count = plural(need.backends, "backend", "backends")
        yield f"memory: pool {need.pool}: {count}, {need.backends + need.surge} during a reload; {', '.join(known)}"
    where = "that the cgroup may have" if there.is_limited else "of this machine"
    missing = f" without pool {', '.join(need.pool for need in unknown)}" if unknown else ""
    said = f"{size(expected)} expected{missing}, " if expected else ""
    yield f"memory: {said}{size(available)} available, of {size(there.total)} {where}"
    most = peak([(need, need.most) for need in wanted])
    if expected > available:
        yield f"warning: the backends are expected to take {size(expected)} of memory, and {size(available)} are available"
    elif most > available:
        acts = ["limits.memory kills"] if any(need.hard for need in wanted) else []
        acts += ["restart.max_memory replaces"] if any(need.limit and not need.hard for need in wanted) else []
        yield f"warning: before {' or '.join(acts)} them the backends may take {size(most)} of memory, and {size(available)} are available"


def _measured(settings: "Settings") -> Mapping[str, list[int]]:
    """Memory of the backends that this file's balancer runs now, by pool; nothing when none does."""
    from balancer.admin.client import Client

    try:
        status = Client(Path(settings.control_socket), settings.path, SILENCE).get("/api/v1/status")
        return {
            pool["name"]: [found for b in pool["backends"] if (found := b["memory_bytes"])] for pool in status["pools"]
        }
    except (BalancerError, KeyError, TypeError):
        return {}
