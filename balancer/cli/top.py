"""`balancer top`: pools and backends, live, until q."""

import os
import select
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any, Final

import click

from balancer.cli.command import VERBS, config_option
from balancer.cli.running import balancer_of
from balancer.cli.status import STATE_STYLES, age, port, size, state, summary
from balancer.errors import BalancerError

KEYS_THAT_END: Final = b"qQ\x04"  # Ctrl-D, too; Ctrl-C is a signal
ESCAPE: Final = b"\x1b"  # alone: with more behind it, it is an arrow or the like


class Rates:
    """Requests per second of each backend, from one status to the next."""

    def __init__(self) -> None:
        self._before: dict[str, int] = {}
        self._at = 0.0

    def of(self, status: dict[str, Any], now: float) -> dict[str, float]:
        """Since it was last asked; nothing the first time. now: seconds of a steady clock."""
        totals = {
            backend["name"]: backend["requests_total"] for pool in status["pools"] for backend in pool["backends"]
        }
        seconds = now - self._at
        rates = {
            name: max(0, total - self._before[name]) / seconds for name, total in totals.items() if name in self._before
        }
        self._before, self._at = totals, now
        return rates


@click.command("top", help=VERBS["top"])
@click.option(
    "--interval",
    type=click.FloatRange(0.1, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@config_option
def verb(config: Path, interval: float) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BalancerError("top needs a terminal; balancer status prints the same once")
    from rich.console import Console
    from rich.live import Live

    client, rates, console = balancer_of(config), Rates(), Console(highlight=False)
    status = client.get("/api/v1/status")
    with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            live.update(_picture(status, rates.of(status, monotonic()), console.width), refresh=True)
            if _is_over(interval):
                return
            status = client.get("/api/v1/status")


def _picture(status: dict[str, Any], rates: dict[str, float], width: int) -> Any:
    from rich.console import Group
    from rich.text import Text

    from balancer.cli.table import Column, made

    columns = [
        Column("backend"),
        Column("state", styles=STATE_STYLES),
        Column("req/s", right=True),
        Column("in flight", "now", right=True),
        Column("requests", "reqs", right=True),
        Column("weight", "wt", right=True),
        Column("pid", right=True),
        Column("port", right=True),
        Column("up", right=True),
        Column("restarts", "rst", right=True),
        Column("memory", "mem", right=True),
        Column("CPU", right=True),
    ]
    parts: list[Any] = [Text(summary(status))]
    for pool in status["pools"]:
        names = {backend["name"] for backend in pool["backends"]}
        total = sum(rates.get(name, 0.0) for name in names)
        parts.append(Text(f"\n{pool['name']} ({pool['policy']}): {total:.0f} req/s"))
        parts.append(made(columns, [_row(backend, rates) for backend in pool["backends"]], width))
    return Group(*parts, Text("\nq ends", style="dim"))


def _row(backend: dict[str, Any], rates: dict[str, float]) -> list[str]:
    memory, cpu = backend.get("memory_bytes"), backend.get("cpu_percent")
    rate = rates.get(backend["name"])
    return [
        backend["name"],
        state(backend),
        f"{rate:.0f}" if rate is not None else "-",
        str(backend["in_flight"]),
        str(backend["requests_total"]),
        str(backend["weight"]),
        str(backend["pid"] or "-"),
        port(backend["address"]),
        age(backend["uptime_seconds"]) if backend["uptime_seconds"] else "-",
        str(backend["restarts"]),
        size(memory) if memory else "-",
        f"{cpu:.0f}%" if cpu is not None and backend["pid"] else "-",
    ]


@contextmanager
def _keys() -> Iterator[None]:
    """Keys come one by one and are not shown."""
    before = termios.tcgetattr(sys.stdin)
    tty.setcbreak(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def _is_over(seconds: float) -> bool:
    """Whether within so many seconds a key is pressed that ends it, or nobody is there any more."""
    until = monotonic() + seconds
    while (left := until - monotonic()) > 0:
        ready, _, _ = select.select([sys.stdin], [], [], left)
        if ready:
            pressed = os.read(sys.stdin.fileno(), 64)
            if pressed in (b"", ESCAPE) or any(key in KEYS_THAT_END for key in pressed):
                return True
    return False
