"""`balancer check`: is the file good? And what may stand in one?"""

from pathlib import Path

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

    load(config)
    click.echo("ok")
