"""`balancer reload`: as SIGHUP, with its progress, until it is complete or rolled back."""

from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import balancer_of
from balancer.errors import BalancerError


@click.command("reload", help=VERBS["reload"])
@config_option
def verb(config: Path) -> None:
    for step in balancer_of(config).stream("POST", "/api/v1/reload"):
        if step.get("event") == "done":
            if not step.get("ok"):
                raise BalancerError(step.get("text") or "the reload failed")
            click.echo(step.get("text") or "reload complete")
            return
        if step.get("text"):
            click.echo(step["text"])
    raise BalancerError("the balancer ended before the reload was complete")
