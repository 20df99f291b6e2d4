"""`balancer schema`: what may stand in the file, for editors."""

import json

import click

from balancer.cli.command import VERBS


@click.command("schema", help=VERBS["schema"])
def verb() -> None:
    from balancer.settings.schema import schema

    click.echo(json.dumps(schema(), indent=2, ensure_ascii=False))
