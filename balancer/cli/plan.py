"""`balancer plan`: what a reload of a file would do to the running balancer."""

import os
from pathlib import Path
from typing import Any

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of, say_json
from balancer.errors import BalancerError
from balancer.settings.problems import SettingsError

NOTHING, INVALID, CHANGES = 0, 1, 2


@click.command("plan", help=VERBS["plan"])
@click.option(
    "--running", metavar="FILE", type=Path, help="The file that the balancer runs with, if it is another one."
)
@json_option("All of it, as one line of JSON.")
@config_option
@click.pass_context
def verb(ctx: click.Context, config: Path, running: Path | None, as_json: bool) -> None:
    try:
        client = balancer_of(running or config)
    except SettingsError as error:
        # Here 2 means something else.
        raise BalancerError(str(error)) from None
    for found in client.stream("POST", "/api/v1/plan", {"config": os.path.abspath(config)}):
        if as_json:
            say_json(found)
        if not found["ok"]:
            if as_json:
                ctx.exit(INVALID)
            raise BalancerError(found["text"])
        lines = described(found)
        if not as_json:
            click.echo("\n".join(lines) if lines else "nothing would change but the processes themselves")
        ctx.exit(CHANGES if lines else NOTHING)
    raise BalancerError("the balancer ended before it had an answer")


def described(found: dict[str, Any]) -> list[str]:
    """The prediction in its three groups, for people; empty: nothing would change."""
    groups = [("applied live", found["live"])]
    groups += [(f"needs new backends in pool {pool}", changes) for pool, changes in found["backends"].items()]
    groups += [("needs a restart", found["restart"])]
    return [line for title, changes in groups if changes for line in (title, *map(_line, changes))]


def _line(change: dict[str, str]) -> str:
    if not change["new"]:
        return f"  {change['key']}: {change['old']}, removed" if change["old"] else f"  {change['key']}: removed"
    return (
        f"  {change['key']}: {change['old']} → {change['new']}"
        if change["old"]
        else f"  {change['key']}: {change['new']}, new"
    )
