"""`balancer run`: the foreground process, from the file to its exit code."""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from balancer.cli.command import VERBS, config_option
from balancer.telemetry.colour import BOLD, DIM, RESET
from balancer.telemetry.console import takes_colour

if TYPE_CHECKING:
    from balancer.settings.address import Address
    from balancer.settings.model import Settings
    from balancer.settings.model_pool import Pool


@click.command("run", help=VERBS["run"])
@config_option
@click.pass_context
def verb(ctx: click.Context, config: Path) -> None:
    from balancer.settings.load import load

    settings = load(config)

    import trio

    from balancer.supervisor.process import supervise

    def greet(write: Callable[[str], object]) -> None:
        # Lines of JSON are for machines, which greet nobody.
        if settings.log.format == "text":
            write("\n".join(greeting(settings, takes_colour(sys.stderr))))

    ctx.exit(trio.run(partial(supervise, settings, on_started=greet)))


def greeting(settings: "Settings", coloured: bool) -> list[str]:
    """What a start says once it serves: listeners, pools, admin address, control socket; a line each."""
    rows = [
        ("listening", _url(listen.address, listen.tls is not None), name) for name, listen in settings.listen.items()
    ]
    rows += [("pool", name, _pool(pool)) for name, pool in settings.pool.items()]
    if settings.admin.address is not None:
        rows.append(("admin", _url(settings.admin.address), ""))
    rows.append(("control", settings.control_socket, f"balancer status --config {settings.path.name}"))
    label, bold, dim, end = ("\x1b[32m", BOLD, DIM, RESET) if coloured else ("", "", "", "")
    return [
        f"{label}{what:>9}{end}  {bold}{thing}{end}" + (f"  {dim}{note}{end}" if note else "")
        for what, thing, note in rows
    ]


def _url(address: "Address", is_tls: bool = False) -> str:
    return str(address) if address.is_unix else f"{'https' if is_tls else 'http'}://{address}"


def _pool(pool: "Pool") -> str:
    groups = []
    for group in pool.groups:
        if group.is_spawned:
            command = group.command if isinstance(group.command, str) else " ".join(group.command)
            groups.append(f"{group.backend_count} × {command}")
        else:
            groups.append(str(group.address))
    return f"{' + '.join(groups)}  ({pool.policy})"
