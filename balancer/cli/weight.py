"""`balancer weight`: another weight for a backend, until the next reload."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import path_of, see_through


@click.command("weight", help=VERBS["weight"])
@click.argument("target", metavar="POOL/BACKEND")
@click.argument("weight", type=click.IntRange(0, 1000))
@config_option
def verb(config: Path, target: str, weight: int) -> None:
    see_through(config, f"{path_of(target)}/weight", {"weight": weight})
