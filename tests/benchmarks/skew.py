"""Skewed load: four servers that each handle one request at a time, most requests short and some long, open loop.

Where a long request is, short ones wait behind it unless the balancer keeps them from going there: what a policy is worth.
"""

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import trio

from tests.benchmarks.methods import Start, balancer, envoy, haproxy, nginx
from tests.benchmarks.openloop import Answered, Due, NotQuiet, run, schedule
from tests.benchmarks.process import Process, temporary_folder
from tests.support.ports import free_port
from tests.support.running import ROOT

SERVERS = 4
FAST, SLOW = 5, 250  # milliseconds
SLOW_SHARE = 0.05
BUSY = 0.6
RATE = BUSY * SERVERS / ((1 - SLOW_SHARE) * FAST + SLOW_SHARE * SLOW) * 1000
ATTEMPTS = 4  # beside the last one
LONGER = 10  # times the seconds of the other rows: p99.9 needs thousands of requests

VARIANTS: dict[str, Start] = {
    "balancer weighted-round-robin": balancer(""),
    "balancer least-connections": balancer('policy = "least-connections"'),
    "balancer random-two": balancer('policy = "random-two"'),
    "balancer peak-ewma": balancer('policy = "peak-ewma"'),
    "balancer concurrency = 1": balancer('concurrency = 1\nqueue = 10000\nqueue_timeout = "60s"'),
    "nginx round robin": nginx(""),
    "nginx least_conn": nginx("least_conn;"),
    "haproxy roundrobin": haproxy("roundrobin"),
    "haproxy leastconn": haproxy("leastconn"),
    "haproxy leastconn, maxconn 1": haproxy("leastconn", "maxconn 1"),
    "envoy least request": envoy,
}
BASE = "nginx round robin"


def lines(seconds: float, repeat: int, only: Sequence[str], peer_core: int, load_core: int) -> list[str]:
    """Lines of the report. only: names of peers; those that are not installed are left out."""
    wanted = {name: start for name, start in VARIANTS.items() if name.split()[0] in only}
    if shutil.which("envoy") is None:
        wanted.pop("envoy least request", None)
    found: dict[str, list[Answered]] = {name: [] for name in wanted}
    trouble: dict[str, str] = {}
    with ExitStack() as stack:
        ports = [free_port() for _ in range(SERVERS)]
        folder = new_folder(stack)
        command = [sys.executable, "-m", "tests.benchmarks.single", *map(str, ports)]
        env = {"PYTHONPATH": str(ROOT)}
        origin = Process("origin", command, load_core, folder, env=env, as_nobody=False)
        stack.callback(origin.stop)
        for port in ports:
            origin.wait_for(port)
        running = {}
        for name, start in wanted.items():
            running[name] = start(new_folder(stack), peer_core, ports)
            stack.callback(running[name].stop)
        os.sched_setaffinity(0, {load_core})
        for number in range(repeat):
            due = schedule(RATE, seconds * LONGER, SLOW_SHARE, f"/{FAST}", f"/{SLOW}", seed=number)
            for name, peer in running.items():
                try:
                    found[name] += measured(peer.port, due)
                except* (RuntimeError, OSError, NotQuiet) as group:
                    trouble[name] = str(group.exceptions[0])
    title = f"## skew: {SERVERS} servers, one request at a time each, {1 - SLOW_SHARE:.0%} of {FAST} ms and {SLOW_SHARE:.0%} of {SLOW} ms"
    about = f"open loop, {RATE:.0f} requests a second ({BUSY:.0%} busy), {seconds * LONGER * repeat:g} s for each in turn; milliseconds"
    heads = "| who | p50 | p99 | p99.9 | p99 of the short ones | p99 of nginx round robin's |"
    rows = [row(name, found, trouble) for name in wanted]
    return [title, "", about, "", heads, "| --- |" + " ---: |" * 5, *rows, ""]


def measured(port: int, due: Sequence[Due]) -> list[Answered]:
    """One run; again when the machine was not quiet."""
    for _ in range(ATTEMPTS):
        try:
            return trio.run(run, port, due)
        except NotQuiet as error:
            sys.stderr.write(f"once more: {error}\n")
    return trio.run(run, port, due)


def row(name: str, found: dict[str, list[Answered]], trouble: dict[str, str]) -> str:
    """One line of the table."""
    if name in trouble:
        return f"| {name} | void: {trouble[name]} |" + " |" * 4
    every = [one.seconds * 1000 for one in found[name]]
    short = [one.seconds * 1000 for one in found[name] if one.path == f"/{FAST}"]
    base = quantile([one.seconds * 1000 for one in found.get(BASE, [])], 0.99)
    ratio = f"{quantile(every, 0.99) / base:.2f}" if base else "–"
    numbers = [quantile(every, 0.5), quantile(every, 0.99), quantile(every, 0.999), quantile(short, 0.99)]
    return f"| {name} | " + " | ".join(f"{number:.0f}" for number in numbers) + f" | {ratio} |"


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def new_folder(stack: ExitStack) -> Path:
    """One that goes at the end."""
    folder = temporary_folder()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
