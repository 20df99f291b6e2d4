"""`balancer run`: the foreground process, from the file to its exit code."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from balancer.cli.command import VERBS, config_option

if TYPE_CHECKING:
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

    ctx.exit(trio.run(supervise, settings))


def greeting(settings: "Settings") -> list[str]:
    """What a start says: listeners, pools, admin address, control socket; a line each, plain."""
    listeners = [("listening", f"http://{listen.address}", name) for name, listen in settings.listen.items()]
    pools = [("pool", name, _pool(pool)) for name, pool in settings.pool.items()]
    admin = [("admin", f"http://{settings.admin.address}", "")] if settings.admin.address else []
    rows = [*listeners, *pools, *admin, ("control", str(settings.control_socket), "")]
    return [f"{what:<10} {thing}{f'  {note}' if note else ''}" for what, thing, note in rows]


def _pool(pool: "Pool") -> str:
    groups = []
    for group in pool.groups:
        if group.is_spawned:
            command = group.command if isinstance(group.command, str) else " ".join(group.command)
            groups.append(f"{group.backend_count} × {command}")
        else:
            groups.append(str(group.address))
    return f"{' + '.join(groups)}  ({pool.policy})"
