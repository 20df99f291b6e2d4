"""`balancer send`: a message over the channel, to one backend or to all of a pool, and their replies if they are waited for."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of, path_of, say_json, see_through, selection
from balancer.cli.seconds import seconds
from balancer.cli.status import plural
from balancer.errors import BalancerError

HELP = f"""{VERBS["send"]}

Without --wait a backend gets JSON as it is. With it, it gets {{"type": "ask", "id": 7, "data": JSON}} and is to send
{{"type": "reply", "id": 7, "data": …}}, or "error" instead of "data"; each reply is printed as a line of JSON with the backend's name.
Exit code 1: a backend replied with an error, not in time, or went away.
"""
TIMEOUT = 10.0


@click.command("send", help=HELP, short_help=VERBS["send"])
@click.argument("target", metavar="POOL[/BACKEND]")
@click.argument("message", metavar="JSON")
@click.option("-w", "--wait", is_flag=True, help="Wait for a reply of each backend, and print it.")
@click.option(
    "--timeout",
    callback=seconds(0.001),
    metavar="SECONDS",
    help=f"With --wait: how long, {TIMEOUT:g} by default.",
)
@json_option("How many it was sent to, as JSON; with --wait every step as it comes, a line each, and last the outcome.")
@config_option
def verb(config: Path, target: str, message: str, wait: bool, timeout: float | None, as_json: bool) -> None:
    try:
        value = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise click.UsageError(
            f"the message is not JSON: {error}; a plain word needs quotes of its own: '\"word\"'"
        ) from None
    if timeout is not None and not wait:
        raise click.UsageError("--timeout is how long --wait waits; without it nothing is waited for")
    chosen = selection(target)
    path = path_of(target) if "backend" in chosen else f"/api/v1/pools/{quote(chosen.get('pool', ''), safe='')}"
    if wait:
        body = {"message": value, "wait": True, "timeout": timeout or TIMEOUT}
        if as_json:
            see_through(config, f"{path}/send", body, as_json=True)
        else:
            _replies(balancer_of(config).stream("POST", f"{path}/send", body))
    else:
        answer = balancer_of(config).post(f"{path}/send", {"message": value})
        if as_json:
            say_json(answer)
        else:
            click.echo(f"sent to {plural(answer['sent'], 'backend', 'backends')}")


def _replies(steps: Any) -> None:
    """Print each; raises BalancerError with a line for each backend that gave none, or an error."""
    for step in steps:
        if step.get("event") == "reply":
            shown = {key: step[key] for key in ("backend", "generation", "data", "error") if key in step}
            click.echo(json.dumps(shown, ensure_ascii=False))
        elif step.get("event") == "done":
            if not step.get("ok"):
                raise BalancerError(step.get("text") or "not every backend replied")
            return
    raise BalancerError("the balancer ended before every backend had replied")
