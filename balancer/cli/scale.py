"""`balancer scale`: another number of backends, until the next reload."""

from pathlib import Path
from urllib.parse import quote

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import STEPS, see_through

WORDS = ("auto", "max")


def number(ctx: click.Context, parameter: click.Parameter, value: str) -> int | str:
    """How many: from 1 on, or one of `WORDS`. Raises BadParameter."""
    if value in WORDS:
        return value
    if not (value.isascii() and value.isdigit() and len(value) < 10):
        raise click.BadParameter(f"{value!r} is not a number of backends; expected one from 1 on, or auto")
    if not int(value):
        # To PM2, `scale app 0` means none, and `-i 0` one per CPU: whichever was meant, the other would be an outage or a crowd.
        raise click.BadParameter(
            "0 would leave nobody to answer; auto means one per usable CPU, and balancer stop ends all"
        )
    return int(value)


@click.command("scale", help=f"{VERBS['scale']} BACKENDS is a number from 1 on, or auto (or max): one per usable CPU.")
@click.argument("pool")
@click.argument("backends", callback=number)
@json_option(STEPS)
@config_option
def verb(config: Path, pool: str, backends: int | str, as_json: bool) -> None:
    see_through(config, f"/api/v1/pools/{quote(pool, safe='')}/scale", {"backends": backends}, as_json=as_json)
