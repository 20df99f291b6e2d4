"""`balancer stop`: as SIGTERM, and waits."""

import os
import select
from pathlib import Path

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of, say_json
from balancer.cli.seconds import seconds
from balancer.errors import BalancerError


@click.command("stop", help=VERBS["stop"])
@click.option("--timeout", callback=seconds(), metavar="SECONDS", help="Give up waiting after this long.")
@json_option("The outcome, as one line of JSON.")
@config_option
def verb(config: Path, timeout: float | None, as_json: bool) -> None:
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
    text = "stopped" if ended else f"the balancer (pid {pid}) is still stopping after {timeout:g} s"
    if as_json:
        say_json({"event": "done", "ok": bool(ended), "text": text})
        raise click.exceptions.Exit(0 if ended else 1)
    if not ended:
        raise BalancerError(text)
    click.echo(text)
