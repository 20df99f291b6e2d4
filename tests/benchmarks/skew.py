"""Skewed load: four servers that each handle one request at a time, most requests short and some long, open loop.

Where a long request is, short ones wait behind it unless the balancer keeps them from going there: what a policy is worth.
"""

import os
import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import trio

from tests.benchmarks import peers
from tests.benchmarks.openloop import Answered, run, schedule
from tests.benchmarks.peers import Peer, program
from tests.benchmarks.process import PATIENCE, Process, temporary_folder
from tests.support.ports import free_port
from tests.support.running import ROOT

SERVERS = 4
FAST, SLOW = 5, 250  # milliseconds
SLOW_SHARE = 0.05
BUSY = 0.6
RATE = BUSY * SERVERS / ((1 - SLOW_SHARE) * FAST + SLOW_SHARE * SLOW) * 1000
LONGER = 10  # times the seconds of the other rows: p99.9 needs thousands of requests

Start = Callable[[Path, int, Sequence[int]], Peer]

ENVOY = """
static_resources:
  listeners:
  - address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: web
          route_config: {{virtual_hosts: [{{name: all, domains: ["*"], routes: [{{match: {{prefix: "/"}}, route: {{cluster: origin}}}}]}}]}}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}}
  clusters:
  - name: origin
    type: STATIC
    connect_timeout: 3s
    lb_policy: LEAST_REQUEST
    load_assignment: {{cluster_name: origin, endpoints: [{{lb_endpoints: [{servers}]}}]}}
"""


def nginx(method: str) -> Start:
    """With that balancing method; "" is round robin."""

    def start(folder: Path, core: int, origin: Sequence[int]) -> Peer:
        port = free_port()
        servers = " ".join((method, *(f"server 127.0.0.1:{p};" for p in origin)))
        (folder / "nginx.conf").write_text(peers.NGINX.format(port=port, servers=servers))
        command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        return Peer("nginx", port, Process("nginx", command, core, folder))

    return start


def haproxy(balance: str, more: str = "") -> Start:
    """With that algorithm; more: of each server."""

    def start(folder: Path, core: int, origin: Sequence[int]) -> Peer:
        port = free_port()
        servers = "\n".join(f"    server s{i} 127.0.0.1:{p} {more}" for i, p in enumerate(origin))
        text = peers.HAPROXY.format(port=port, servers=f"    timeout queue 60s\n{servers}")
        (folder / "haproxy.cfg").write_text(text.replace("balance roundrobin", f"balance {balance}"))
        return Peer("haproxy", port, Process("haproxy", [program("haproxy"), "-db", "-f", "haproxy.cfg"], core, folder))

    return start


def balancer(settings: str) -> Start:
    """With these lines in its pool."""

    def start(folder: Path, core: int, origin: Sequence[int]) -> Peer:
        port, admin = free_port(), free_port()
        servers = "\n".join(f'[[pool.origin.group]]\naddress = "127.0.0.1:{p}"\n' for p in origin)
        text = peers.BALANCER.format(port=port, admin=admin, servers=servers)
        (folder / "cluster.toml").write_text(text.replace("[pool.origin]\n", f"[pool.origin]\n{settings}\n"))
        command = [sys.executable, "-m", "balancer", "--config", str(folder / "cluster.toml")]
        env = {"PYTHONPATH": str(ROOT)}
        peer = Peer("balancer", port, Process("balancer", command, core, folder, env=env, as_nobody=False))
        until_all_serve(admin, len(origin))
        return peer

    return start


def envoy(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """Least request, which for equal weights is the better of two drawn ones."""
    port = free_port()
    endpoint = "{{endpoint: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {}}}}}}}}}"
    servers = ", ".join(endpoint.format(p) for p in origin)
    (folder / "envoy.yaml").write_text(ENVOY.format(port=port, servers=servers))
    command = [shutil.which("envoy") or "envoy", "-c", "envoy.yaml", "--concurrency", "1", "--log-level", "error"]
    return Peer("envoy", port, Process("envoy", command, core, folder))


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
                    found[name] += trio.run(run, peer.port, due)
                except* (RuntimeError, OSError) as group:
                    trouble[name] = str(group.exceptions[0])
    title = f"## skew: {SERVERS} servers, one request at a time each, {1 - SLOW_SHARE:.0%} of {FAST} ms and {SLOW_SHARE:.0%} of {SLOW} ms"
    about = f"open loop, {RATE:.0f} requests a second ({BUSY:.0%} busy), {seconds * LONGER * repeat:g} s for each in turn; milliseconds"
    heads = "| who | p50 | p99 | p99.9 | p99 of the short ones | p99 of nginx round robin's |"
    rows = [row(name, found, trouble) for name in wanted]
    return [title, "", about, "", heads, "| --- |" + " ---: |" * 5, *rows, ""]


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


def until_all_serve(admin: int, count: int) -> None:
    """A backend elsewhere starts down; wait until the first probes have passed. Raises RuntimeError when they do not."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{admin}/metrics", timeout=PATIENCE) as answer:
                lines = answer.read().decode().splitlines()
        except OSError:
            lines = []
        if (
            sum(line.startswith("balancer_backend_takes_requests{") and line.endswith(" 1.0") for line in lines)
            == count
        ):
            return
        time.sleep(0.05)  # another program's state: there is no event to wait for
    raise RuntimeError(f"not all backends took requests within {PATIENCE:g} s")


def quantile(values: Sequence[float], share: float) -> float:
    """The value that this share of all is not above; 0 of none."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))] if values else 0.0


def new_folder(stack: ExitStack) -> Path:
    """One that goes at the end."""
    folder = temporary_folder()
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    return folder
