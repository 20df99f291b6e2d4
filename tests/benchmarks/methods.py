"""The same proxies with other balancing methods, each for one core: what the row `skew` compares."""

import shutil
import sys
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.peers import Peer, program
from tests.benchmarks.process import PATIENCE, Process
from tests.support.ports import free_port
from tests.support.running import ROOT

Start = Callable[[Path, int, Sequence[int]], Peer]

NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 4096; }}
http {{
    access_log off;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream origin {{ {servers} keepalive 64; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{ proxy_pass http://origin; proxy_http_version 1.1; proxy_set_header Connection ""; }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
defaults
    mode http
    timeout connect 3s
    timeout client 75s
    timeout server 60s
    timeout queue 60s
    http-reuse always
frontend web
    bind 127.0.0.1:{port} backlog 4096
    default_backend origin
backend origin
    balance {balance}
{servers}
"""

BALANCER = """
[listen.web]
address = "127.0.0.1:{port}"

[proxy]
processes = 1

[pool.origin]
{settings}

{servers}
[admin]
address = "127.0.0.1:{admin}"
"""

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
        (folder / "nginx.conf").write_text(NGINX.format(port=port, servers=servers))
        command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
        return Peer("nginx", port, Process("nginx", command, core, folder))

    return start


def haproxy(balance: str, more: str = "") -> Start:
    """With that algorithm; more: of each server."""

    def start(folder: Path, core: int, origin: Sequence[int]) -> Peer:
        port = free_port()
        servers = "\n".join(f"    server s{i} 127.0.0.1:{p} {more}" for i, p in enumerate(origin))
        (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, balance=balance, servers=servers))
        return Peer("haproxy", port, Process("haproxy", [program("haproxy"), "-db", "-f", "haproxy.cfg"], core, folder))

    return start


def balancer(settings: str) -> Start:
    """With these lines in its pool."""

    def start(folder: Path, core: int, origin: Sequence[int]) -> Peer:
        port, admin = free_port(), free_port()
        servers = "\n".join(f'[[pool.origin.group]]\naddress = "127.0.0.1:{p}"\n' for p in origin)
        text = BALANCER.format(port=port, admin=admin, settings=settings, servers=servers)
        (folder / "cluster.toml").write_text(text)
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
    command = [
        shutil.which("envoy") or "envoy",
        "-c",
        "envoy.yaml",
        "--concurrency",
        "1",
        "--log-level",
        "error",
        "--use-dynamic-base-id",
    ]
    return Peer("envoy", port, Process("envoy", command, core, folder))


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
