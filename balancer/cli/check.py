"""`balancer check`: is the file good?"""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option


@click.command("check", help=VERBS["check"])
@config_option
def verb(config: Path) -> None:
    from balancer.settings.load import load

    load(config)
    click.echo("ok")
