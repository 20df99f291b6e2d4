"""`balancer weight`: another weight for a backend, until the next reload."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import STEPS, path_of, see_through


@click.command("weight", help=VERBS["weight"])
@click.argument("target", metavar="POOL/BACKEND")
@click.argument("weight", type=click.IntRange(0, 1000))
@json_option(STEPS)
@config_option
def verb(config: Path, target: str, weight: int, as_json: bool) -> None:
    see_through(config, f"{path_of(target)}/weight", {"weight": weight}, as_json=as_json)
