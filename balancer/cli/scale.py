"""`balancer scale`: another number of backends, until the next reload."""

from pathlib import Path
from urllib.parse import quote

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import see_through


@click.command("scale", help=VERBS["scale"])
@click.argument("pool")
@click.argument("backends", type=click.IntRange(min=1))
@config_option
def verb(config: Path, pool: str, backends: int) -> None:
    see_through(config, f"/api/v1/pools/{quote(pool, safe='')}/scale", {"backends": backends})
