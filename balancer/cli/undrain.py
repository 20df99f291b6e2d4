"""`balancer undrain`: a backend back into rotation, until it takes requests."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import STEPS, path_of, see_through


@click.command("undrain", help=VERBS["undrain"])
@click.argument("target", metavar="POOL/BACKEND")
@json_option(STEPS)
@config_option
def verb(config: Path, target: str, as_json: bool) -> None:
    see_through(config, f"{path_of(target)}/undrain", as_json=as_json)
