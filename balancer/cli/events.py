"""`balancer events`: what happened to processes and traffic."""

import time
from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of, say_json


@click.command("events", help=VERBS["events"])
@click.option("-f", "--follow", is_flag=True, help="Go on with new ones as they come, until interrupted.")
@click.option("-n", "--lines", default=100, type=click.IntRange(min=0), show_default=True, help="How many old ones.")
@json_option("One JSON object per line.")
@config_option
def verb(config: Path, follow: bool, lines: int, as_json: bool) -> None:
    for event in balancer_of(config).stream("GET", "/api/v1/events", last=lines, follow=int(follow)):
        if as_json:
            say_json(event)
        else:
            when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(event["time"]))
            click.echo(f"{when}  {event['text']}")
