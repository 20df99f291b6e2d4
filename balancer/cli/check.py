"""`balancer check`: is the file good? And what may stand in one?"""

from pathlib import Path
from time import time

import click

from balancer.cli.command import VERBS, config_option


@click.command("check", help=VERBS["check"])
@click.option("--explain", is_flag=True, help="Print every key with its default and what it is for, instead.")
@config_option
def verb(config: Path, explain: bool) -> None:
    if explain:
        from balancer.settings.reference import reference

        click.echo(reference(), nl=False)
        return
    from balancer.settings.load import load
    from balancer.settings.tls import warnings

    for line in warnings(load(config), time()):
        click.echo(f"warning: {line}", err=True)
    click.echo("ok")
