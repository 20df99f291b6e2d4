"""`balancer reload`: as SIGHUP, with its progress, until it is complete or rolled back."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import STEPS, see_through


@click.command("reload", help=VERBS["reload"])
@json_option(STEPS)
@config_option
def verb(config: Path, as_json: bool) -> None:
    see_through(config, "/api/v1/reload", as_json=as_json)
