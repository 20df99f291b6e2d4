"""`balancer top`: pools and backends, live, until q; or a line of JSON per look."""

import itertools
import os
import select
import sys
import termios
import tty
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep, time
from typing import Any, Final

import click

from balancer.admin.client import Client
from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of, say_json
from balancer.cli.seconds import seconds
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
    callback=seconds(0.1, 60.0),
    default="1",
    show_default=True,
    metavar="SECONDS",
    help="Between two looks.",
)
@click.option(
    "-n", "--count", type=click.IntRange(min=1), metavar="COUNT", help="So many looks, instead of until the end."
)
@json_option(
    "The status once per interval, a line each, with requests per second from the second on; needs no terminal."
)
@config_option
def verb(config: Path, interval: float, count: int | None, as_json: bool) -> None:
    looks = range(count) if count is not None else itertools.count()
    if as_json:
        _lines(balancer_of(config), interval, looks)
    else:
        _live(config, interval, looks)


def _lines(client: Client, interval: float, looks: Iterable[int]) -> None:
    """One look per line; `requests_per_second` is null where there is nothing to compare with."""
    rates, due = Rates(), monotonic()
    for look in looks:
        if look:
            due += interval
            sleep(max(0.0, due - monotonic()))
        status = client.get("/api/v1/status")
        found = rates.of(status, monotonic())
        for pool in status["pools"]:
            for backend in pool["backends"]:
                rate = found.get(backend["name"])
                backend["requests_per_second"] = None if rate is None else round(rate, 3)
            pool["requests_per_second"] = round(_total(pool, found), 3) if look else None
        say_json({"time": round(time(), 3), **status})


def _live(config: Path, interval: float, looks: Iterable[int]) -> None:
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise BalancerError("top needs a terminal, or --json; balancer status prints the same once")
    from rich.console import Console
    from rich.live import Live

    client, rates, console = balancer_of(config), Rates(), Console(highlight=False)
    client.pid()  # a balancer that is not there is said before the screen is taken
    with _keys(), Live(console=console, screen=True, auto_refresh=False) as live:
        for _ in looks:
            status = client.get("/api/v1/status")
            live.update(_picture(status, rates.of(status, monotonic()), console.width), refresh=True)
            if _is_over(interval):
                return


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
        parts.append(Text(f"\n{pool['name']} ({pool['policy']}): {_total(pool, rates):.0f} req/s"))
        parts.append(made(columns, [_row(backend, rates) for backend in pool["backends"]], width))
    return Group(*parts, Text("\nq ends", style="dim"))


def _total(pool: dict[str, Any], rates: dict[str, float]) -> float:
    return sum(rates.get(name, 0.0) for name in {backend["name"] for backend in pool["backends"]})


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
