"""`balancer stop`: as SIGTERM, and waits."""

import os
import select
from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import balancer_of
from balancer.errors import BalancerError


@click.command("stop", help=VERBS["stop"])
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Give up waiting after this long.")
@config_option
def verb(config: Path, timeout: float | None) -> None:
    """Waits for the process itself, which outlives its control socket and everything that it started."""
    client = balancer_of(config)
    pid = client.pid()
    try:
        # Opened before it is told, so that the number cannot mean another process by then.
        process = os.pidfd_open(pid)
    except OSError:
        raise BalancerError(
            "the balancer's process cannot be seen from here (another pid namespace?); stop it where it runs"
        ) from None
    try:
        client.post("/api/v1/stop")
        ended, _, _ = select.select([process], [], [], timeout)
    finally:
        os.close(process)
    if not ended:
        raise BalancerError(f"the balancer (pid {pid}) is still stopping after {timeout:g} s")
    click.echo("stopped")
