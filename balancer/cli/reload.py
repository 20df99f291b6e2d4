"""`balancer reload`: as SIGHUP, with its progress, until it is complete or rolled back."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import see_through


@click.command("reload", help=VERBS["reload"])
@config_option
def verb(config: Path) -> None:
    see_through(config, "/api/v1/reload")
