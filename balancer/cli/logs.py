"""`balancer logs`: what backends wrote."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of, say_json, selection


@click.command("logs", help=VERBS["logs"])
@click.argument("target", metavar="[POOL[/BACKEND]]", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines as they come, until interrupted.")
@click.option("-n", "--lines", default=100, type=click.IntRange(min=0), show_default=True, help="How many old lines.")
@json_option("One JSON object per line, with its time, generation and stream.")
@config_option
def verb(config: Path, target: str | None, follow: bool, lines: int, as_json: bool) -> None:
    from balancer.telemetry.console import Prefixes, printable

    prefixes = Prefixes(coloured=_is_coloured())
    query = {**selection(target), "last": lines, "follow": int(follow)}
    for line in balancer_of(config).stream("GET", "/api/v1/logs", **query):
        if as_json:
            say_json(line)
        else:
            click.echo(prefixes.of(line["backend"]) + printable(line["line"]), color=True)


def _is_coloured() -> bool:
    import sys

    from balancer.telemetry.console import takes_colour

    return takes_colour(sys.stdout)
