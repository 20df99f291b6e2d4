"""`balancer status`: pools and backends at a glance."""

import json
from pathlib import Path
from typing import Any

import click

from balancer.cli.command import VERBS, config_option, json_option
from balancer.cli.running import balancer_of
from balancer.telemetry.console import printable

STATE_STYLES = {"ready": "green", "starting": "yellow", "draining": "yellow", "stopping": "yellow", "hold": "bold red"}


@click.command("status", help=VERBS["status"])
@json_option("Everything, as JSON.")
@config_option
def verb(config: Path, as_json: bool) -> None:
    status = balancer_of(config).get("/api/v1/status")
    if as_json:
        click.echo(json.dumps(status, indent=2))
        return
    from balancer.cli.table import Column, show

    click.echo(summary(status))
    columns = [
        Column("backend"),
        Column("state", styles=STATE_STYLES),
        Column("weight", "wt", right=True),
        Column("pid", right=True),
        Column("port", right=True),
        Column("up", right=True),
        Column("restarts", "rst", right=True),
        Column("in flight", "now", right=True),
        Column("requests", "reqs", right=True),
        Column("memory", "mem", right=True),
        Column("CPU", right=True),
    ]
    for pool in status["pools"]:
        click.echo(f"\n{pool['name']} ({pool['policy']})")
        show(columns, [row(backend) for backend in pool["backends"]])
        for line in troubles(pool["backends"]):
            click.echo(line)


def summary(status: dict[str, Any]) -> str:
    """The balancer itself, in one or two lines."""
    listeners = ", ".join(listener["address"] for listener in status["listeners"])
    connections = sum(proxy["connections"] for proxy in status["proxies"])
    proxies = len(status["proxies"])
    return (
        f"balancer {status['version']}, up {age(status['uptime_seconds'])}, {status['config']}\n"
        f"listening on {listeners}; {plural(proxies, 'proxy process', 'proxy processes')}, "
        f"{plural(connections, 'connection', 'connections')}"
    )


def row(backend: dict[str, Any]) -> list[str]:
    """One backend as the cells of its line."""
    memory, cpu = backend.get("memory_bytes"), backend.get("cpu_percent")
    return [
        backend["name"],
        state(backend),
        str(backend["weight"]),
        str(backend["pid"] or "-"),
        port(backend["address"]),
        age(backend["uptime_seconds"]) if backend["uptime_seconds"] else "-",
        str(backend["restarts"]),
        str(backend["in_flight"]),
        str(backend["requests_total"]),
        size(memory) if memory else "-",
        f"{cpu:.0f}%" if cpu is not None and backend["pid"] else "-",
    ]


def troubles(backends: list[dict[str, Any]]) -> list[str]:
    """A line for each whose last probe failed: when, and why."""
    lines = []
    for backend in backends:
        last = backend.get("probe")
        if last is not None and last["result"] == "fail":
            # Its words may be an error of the backend's TLS, say.
            lines.append(f"{backend['name']}: probe failed {age(last['age_seconds'])} ago: {printable(last['reason'])}")
    return lines


def state(backend: dict[str, Any]) -> str:
    """The three axes as the one word that matters most."""
    if backend["phase"] != "running":
        return str(backend["phase"])
    if backend["intent"] == "drain":
        return "draining"
    if backend["takes_requests"]:
        return "ready"
    return str(backend["health"]) if backend["health"] != "healthy" else "running"


def port(address: str) -> str:
    """The port of "host:port"; an address on another host or a Unix socket whole."""
    host, _, number = address.rpartition(":")
    return number if host in ("127.0.0.1", "[::1]", "localhost") else address or "-"


def age(seconds: float) -> str:
    """The two largest units: "3d 4h", "2m 5s", "12s"."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    left = int(seconds)
    parts: list[str] = []
    for name, length in units:
        amount, left = divmod(left, length)
        if amount or parts:
            parts.append(f"{amount}{name}")
    return " ".join(parts[:2]) or "0s"


def size(count: float) -> str:
    """Bytes with a binary unit, three digits at most."""
    for unit in ("B", "K", "M", "G"):
        if count < 1000:
            return f"{count:.0f}{unit}" if count >= 10 or unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    return f"{count:.1f}T"


def plural(count: int, one: str, many: str) -> str:
    """ "1 proxy process", "2 proxy processes"."""
    return f"{count} {one if count == 1 else many}"
