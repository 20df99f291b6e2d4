"""The running balancer of a file, for the verbs that talk to it, and the choice of a pool or backend on their command line."""

import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from balancer.admin.client import Client
from balancer.errors import BalancerError
from balancer.settings.control import control_socket

# What `--json` prints of a verb that waits.
STEPS = "Every step as it comes, as one line of JSON; the last one is the outcome."


def balancer_of(config: Path) -> Client:
    """Whoever answers on the control socket of this file. Raises SettingsError when there is no such file."""
    return Client(control_socket(config, os.environ.get("RUNTIME_DIRECTORY", "")), config)


def selection(target: str | None) -> dict[str, str]:
    """POOL or POOL/BACKEND as the API's query; BACKEND may be written whole ("web-3") or as its number."""
    pool, _, backend = (target or "").partition("/")
    if backend.isdigit():
        backend = f"{pool}-{backend}"
    return {name: value for name, value in (("pool", pool), ("backend", backend)) if value}


def path_of(target: str) -> str:
    """POOL/BACKEND, or the backend's own name, as the API's path. Raises UsageError for anything else."""
    backend = selection(target).get("backend", "" if "/" in target else target)
    if not backend:
        raise click.UsageError(f"{target!r} names no backend; expected POOL/BACKEND, such as web/3")
    return f"/api/v1/backends/{quote(backend, safe='')}"


def say_json(value: Any) -> None:
    """One line of JSON on stdout: in ASCII, so that no terminal and no locale has a say in it."""
    click.echo(json.dumps(value))


def see_through(config: Path, path: str, body: Any = None, *, as_json: bool = False) -> None:
    """Have something done and show its progress until the last word. Raises BalancerError when it did not come about.

    as_json: every step as the API gives it; when it did not come about, the last one says why, and Exit is raised.
    """
    for step in balancer_of(config).stream("POST", path, body):
        if as_json:
            say_json(step)
            if step.get("event") == "done":
                raise click.exceptions.Exit(0 if step.get("ok") else 1)
        elif step.get("event") == "done":
            if not step.get("ok"):
                raise BalancerError(step.get("text") or "it did not come about")
            click.echo(step.get("text") or "done")
            return
        elif step.get("text"):
            click.echo(step["text"])
    raise BalancerError(f"the balancer ended before the {path.rpartition('/')[2]} was complete")
