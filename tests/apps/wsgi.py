"""The smallest WSGI app: answers every request with the name of its backend."""

import os
from collections.abc import Callable
from typing import Any


def app(environ: dict[str, Any], start_response: Callable[[str, list[tuple[str, str]]], object]) -> list[bytes]:
    """One request."""
    start_response("200 OK", [])
    return [os.environ["BALANCER_BACKEND"].encode()]
