"""The proxies under comparison, each configured as its own users would call right, for one core.

All of them balance round robin over the origin's ports, keep upstream connections, add the forwarded headers, `Via` and
`X-Request-ID`, return that id, buffer no bodies on disk, and write no access log.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.benchmarks.process import Process
from tests.support.ports import free_port
from tests.support.programs import find
from tests.support.running import ROOT

NGINX = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off; keepalive_requests 1000000000; client_max_body_size 0;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream origin {{ {servers} keepalive 64; keepalive_requests 1000000000; }}
    server {{
        listen 127.0.0.1:{port} backlog=4096;
        location / {{
            proxy_pass http://origin; proxy_http_version 1.1;
            proxy_buffering off; proxy_request_buffering off; proxy_buffer_size 128k; proxy_buffers 8 128k; client_body_buffer_size 128k;
            proxy_set_header Connection ""; proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr; proxy_set_header X-Forwarded-Proto $scheme;
            proxy_set_header X-Forwarded-Host $http_host; proxy_set_header Forwarded "for=$remote_addr;proto=$scheme";
            proxy_set_header Via "1.1 nginx"; proxy_set_header X-Request-ID $request_id;
            add_header X-Request-ID $request_id;
        }}
    }}
}}
"""

HAPROXY = """
global
    nbthread 1
    maxconn 6000
    tune.bufsize 65536
defaults
    mode http
    timeout connect 3s
    timeout client 75s
    timeout server 60s
    http-reuse always
    option forwardfor
frontend web
    bind 127.0.0.1:{port} backlog 4096
    unique-id-format %[uuid()]
    http-request set-header X-Request-ID %[unique-id]
    http-request set-header X-Forwarded-Proto http
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header Forwarded for=%[src];proto=http
    http-request set-header Via "1.1 haproxy"
    http-response set-header X-Request-ID %[unique-id]
    default_backend origin
backend origin
    balance roundrobin
{servers}
"""

CADDY = """
{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
}}
http://:{port} {{
    bind 127.0.0.1
    header X-Request-ID {{http.request.uuid}}
    reverse_proxy {servers} {{
        lb_policy round_robin
        header_up X-Request-ID {{http.request.uuid}}
        header_up Forwarded "for={{http.request.remote.host}};proto=http"
        header_up Via "1.1 caddy"
        transport http {{
            compression off
            keepalive_idle_conns_per_host 64
        }}
    }}
}}
"""

BALANCER = """
[listen.web]
address = "127.0.0.1:{port}"

[proxy]
processes = 1

[pool.origin]

{servers}
[admin]
address = "127.0.0.1:{admin}"
"""


class Peer:
    """One running proxy. `port`: where it listens."""

    def __init__(self, name: str, port: int, process: Process) -> None:
        self.name = name
        self.port = port
        self.process = process
        process.wait_for(port)

    @property
    def pid(self) -> int:
        """The process whose family does the serving."""
        return self.process.popen.pid

    def stop(self) -> None:
        """End it."""
        self.process.stop()


def start_nginx(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """nginx, one process."""
    port = free_port()
    servers = " ".join(f"server 127.0.0.1:{p};" for p in origin)
    (folder / "nginx.conf").write_text(NGINX.format(port=port, servers=servers))
    command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    return Peer("nginx", port, Process("nginx", command, core, folder))


def start_haproxy(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """HAProxy, one thread, in the foreground without a master."""
    port = free_port()
    servers = "\n".join(f"    server s{i} 127.0.0.1:{p}" for i, p in enumerate(origin))
    (folder / "haproxy.cfg").write_text(HAPROXY.format(port=port, servers=servers))
    return Peer("haproxy", port, Process("haproxy", [program("haproxy"), "-db", "-f", "haproxy.cfg"], core, folder))


def start_caddy(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """Caddy with one scheduler thread."""
    port = free_port()
    servers = " ".join(f"127.0.0.1:{p}" for p in origin)
    (folder / "Caddyfile").write_text(CADDY.format(port=port, servers=servers))
    command = [program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    return Peer("caddy", port, Process("caddy", command, core, folder, env={"GOMAXPROCS": "1"}))


def start_balancer(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """This checkout, one proxy process."""
    port = free_port()
    servers = "\n".join(f'[[pool.origin.group]]\naddress = "127.0.0.1:{p}"\n' for p in origin)
    (folder / "cluster.toml").write_text(BALANCER.format(port=port, admin=free_port(), servers=servers))
    command = [sys.executable, "-m", "balancer", "--config", str(folder / "cluster.toml")]
    # With the rights of whoever measures: the interpreter and the checkout may lie where nobody else can read.
    return Peer(
        "balancer", port, Process("balancer", command, core, folder, env={"PYTHONPATH": str(ROOT)}, as_nobody=False)
    )


STARTS: dict[str, Callable[[Path, int, Sequence[int]], Peer]] = {
    "balancer": start_balancer,
    "nginx": start_nginx,
    "haproxy": start_haproxy,
    "caddy": start_caddy,
}


def program(name: str) -> str:
    """Its full name. Raises RuntimeError when it is not installed."""
    found = find(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found
