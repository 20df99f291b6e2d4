"""`balancer send`: a message over the channel, to one backend or to all of a pool."""

import json
from pathlib import Path
from urllib.parse import quote

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import balancer_of, path_of, selection
from balancer.cli.status import plural


@click.command("send", help=VERBS["send"])
@click.argument("target", metavar="POOL[/BACKEND]")
@click.argument("message", metavar="JSON")
@config_option
def verb(config: Path, target: str, message: str) -> None:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(
            f"the message is not JSON: {error}; a plain word needs quotes of its own: '\"word\"'"
        ) from None
    chosen = selection(target)
    path = path_of(target) if "backend" in chosen else f"/api/v1/pools/{quote(chosen.get('pool', ''), safe='')}"
    sent = balancer_of(config).post(f"{path}/send", {"message": value})["sent"]
    click.echo(f"sent to {plural(sent, 'backend', 'backends')}")
