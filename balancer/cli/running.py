"""The running balancer of a file, for the verbs that talk to it, and the choice of a pool or backend on their command line."""

import os
from pathlib import Path

from balancer.admin.client import Client
from balancer.settings.control import control_socket


def balancer_of(config: Path) -> Client:
    """Whoever answers on the control socket of this file. Raises SettingsError when there is no such file."""
    return Client(control_socket(config, os.environ.get("RUNTIME_DIRECTORY", "")), config)


def selection(target: str | None) -> dict[str, str]:
    """POOL or POOL/BACKEND as the API's query; BACKEND may be written whole ("web-3") or as its number."""
    pool, _, backend = (target or "").partition("/")
    if backend.isdigit():
        backend = f"{pool}-{backend}"
    return {name: value for name, value in (("pool", pool), ("backend", backend)) if value}
