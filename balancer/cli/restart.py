"""`balancer restart`: new processes for a pool or one backend, without a lost request."""

from pathlib import Path
from urllib.parse import quote

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import STEPS, see_through, selection


@click.command("restart", help=VERBS["restart"])
@click.argument("target", metavar="POOL[/BACKEND]")
@json_option(STEPS)
@config_option
def verb(config: Path, target: str, as_json: bool) -> None:
    chosen = selection(target)
    body = {"backend": chosen["backend"]} if "backend" in chosen else {}
    see_through(config, f"/api/v1/pools/{quote(chosen.get('pool', ''), safe='')}/restart", body, as_json=as_json)
