"""The proxies under comparison, each configured as its own users would call right, for one core.

All of them balance round robin over the origin's ports, keep upstream connections, add the forwarded headers, `Via` and
`X-Request-ID`, return that id, buffer no bodies on disk, and write no access log.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import trustme

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
        listen 127.0.0.1:{tls_port} ssl backlog=4096;
        ssl_certificate {pem}; ssl_certificate_key {pem}; ssl_protocols TLSv1.2 TLSv1.3; ssl_session_cache none;
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
    bind 127.0.0.1:{tls_port} backlog 4096 ssl crt {pem} alpn http/1.1 ssl-min-ver TLSv1.2
    unique-id-format %[uuid()]
    http-request set-header X-Request-ID %[unique-id]
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header Forwarded for=%[src];proto=%[ssl_fc,iif(https,http)]
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
(proxied) {{
    bind 127.0.0.1
    header X-Request-ID {{http.request.uuid}}
    reverse_proxy {servers} {{
        lb_policy round_robin
        header_up X-Request-ID {{http.request.uuid}}
        header_up Forwarded "for={{http.request.remote.host}};proto={{http.request.scheme}}"
        header_up Via "1.1 caddy"
        transport http {{
            compression off
            keepalive_idle_conns_per_host 64
        }}
    }}
}}
http://:{port} {{
    import proxied
}}
https://:{tls_port} {{
    tls {pem} {pem}
    import proxied
}}
"""

BALANCER = """
[listen.web]
address = "127.0.0.1:{port}"

[listen.tls]
address = "127.0.0.1:{tls_port}"

[listen.tls.tls]
certificates = [{{cert = "{pem}"}}]

[proxy]
processes = 1

[pool.origin]

{servers}
[admin]
address = "127.0.0.1:{admin}"
"""


class Peer:
    """One running proxy. `port`, `tls_port`: where it listens."""

    def __init__(self, name: str, port: int, process: Process, tls_port: int = 0) -> None:
        self.name = name
        self.port = port
        self.tls_port = tls_port
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
    port, tls_port = free_port(), free_port()
    servers = " ".join(f"server 127.0.0.1:{p};" for p in origin)
    text = NGINX.format(port=port, tls_port=tls_port, pem=certificate(folder), servers=servers)
    (folder / "nginx.conf").write_text(text)
    command = [program("nginx"), "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"]
    return Peer("nginx", port, Process("nginx", command, core, folder), tls_port)


def start_haproxy(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """HAProxy, one thread, in the foreground without a master."""
    port, tls_port = free_port(), free_port()
    servers = "\n".join(f"    server s{i} 127.0.0.1:{p}" for i, p in enumerate(origin))
    text = HAPROXY.format(port=port, tls_port=tls_port, pem=certificate(folder), servers=servers)
    (folder / "haproxy.cfg").write_text(text)
    command = [program("haproxy"), "-db", "-f", "haproxy.cfg"]
    return Peer("haproxy", port, Process("haproxy", command, core, folder), tls_port)


def start_caddy(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """Caddy with one scheduler thread."""
    port, tls_port = free_port(), free_port()
    servers = " ".join(f"127.0.0.1:{p}" for p in origin)
    pem = certificate(folder)
    text = CADDY.format(port=port, tls_port=tls_port, pem=pem, servers=servers)
    (folder / "Caddyfile").write_text(text)
    command = [program("caddy"), "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
    return Peer("caddy", port, Process("caddy", command, core, folder, env={"GOMAXPROCS": "1"}), tls_port)


def start_balancer(folder: Path, core: int, origin: Sequence[int]) -> Peer:
    """This checkout, one proxy process."""
    port, tls_port = free_port(), free_port()
    servers = "\n".join(f'[[pool.origin.group]]\naddress = "127.0.0.1:{p}"\n' for p in origin)
    pem = certificate(folder)
    text = BALANCER.format(port=port, tls_port=tls_port, pem=pem, admin=free_port(), servers=servers)
    (folder / "cluster.toml").write_text(text)
    command = [sys.executable, "-m", "balancer", "--config", str(folder / "cluster.toml")]
    # With the rights of whoever measures: the interpreter and the checkout may lie where nobody else can read.
    process = Process("balancer", command, core, folder, env={"PYTHONPATH": str(ROOT)}, as_nobody=False)
    return Peer("balancer", port, process, tls_port)


STARTS: dict[str, Callable[[Path, int, Sequence[int]], Peer]] = {
    "balancer": start_balancer,
    "nginx": start_nginx,
    "haproxy": start_haproxy,
    "caddy": start_caddy,
}


def certificate(folder: Path) -> Path:
    """A file with a certificate on P-256, as most are today, and its key."""
    issued = trustme.CA(key_type=trustme.KeyType.ECDSA).issue_cert("www.example.com", key_type=trustme.KeyType.ECDSA)
    file = folder / "site.pem"
    issued.private_key_and_cert_chain_pem.write_to_path(str(file))
    file.chmod(0o644)  # for a peer that runs as nobody
    return file


def program(name: str) -> str:
    """Its full name. Raises RuntimeError when it is not installed."""
    found = find(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found
