"""`balancer undrain`: a backend back into rotation, until it takes requests."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import path_of, see_through


@click.command("undrain", help=VERBS["undrain"])
@click.argument("target", metavar="POOL/BACKEND")
@config_option
def verb(config: Path, target: str) -> None:
    see_through(config, f"{path_of(target)}/undrain")
