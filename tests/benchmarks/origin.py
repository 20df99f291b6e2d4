"""The backend behind all peers: one nginx process that listens on several ports, so that there is something to balance."""

from pathlib import Path

from tests.benchmarks.process import Process
from tests.support.ports import free_port
from tests.support.programs import find

ADDRESSES = 4

# tcp_nopush stays off: with it some proxies show a p99 of 40 ms, which is TCP's delayed acknowledgement and not theirs.
# /upload goes through an inner request, because nginx answers `return` before it has read the body.
CONFIG = """
daemon off; master_process off; worker_processes 1; pid nginx.pid; error_log stderr crit;
events {{ worker_connections 8192; }}
http {{
    access_log off; default_type text/html; server_tokens on;
    keepalive_requests 1000000000; keepalive_timeout 600s;
    sendfile on; tcp_nopush off; tcp_nodelay on; open_file_cache max=100;
    client_max_body_size 0; client_body_buffer_size 2m;
    client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    upstream inner {{ server unix:{folder}/inner.sock; keepalive 64; }}
    server {{ listen unix:{folder}/inner.sock; location / {{ return 200 "received"; }} }}
    server {{
        {listen}
        root {folder}/files;
        location = /upload {{
            proxy_pass http://inner; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_pass_request_body off; proxy_set_header Content-Length "";
        }}
        location /files/ {{ alias {folder}/files/; }}
        location / {{
            add_header Cache-Control "no-cache"; add_header X-Frame-Options "DENY"; add_header Vary "Accept-Encoding";
            return 200 "a small answer, as an API gives it to a browser: about a hundred bytes, with a length and a type....";
        }}
    }}
}}
"""


class Origin:
    """Running from construction to `stop`. `ports`: where it listens."""

    def __init__(self, folder: Path, core: int) -> None:
        self.ports = [free_port() for _ in range(ADDRESSES)]
        files = folder / "files"
        files.mkdir()
        (files / "100k").write_bytes(b"x" * 100_000)
        (files / "10m").write_bytes(b"x" * 10_000_000)
        listen = " ".join(f"listen 127.0.0.1:{port} backlog=4096;" for port in self.ports)
        (folder / "nginx.conf").write_text(CONFIG.format(folder=folder, listen=listen))
        nginx = find("nginx") or "nginx"
        self.process = Process("origin", [nginx, "-p", str(folder), "-c", "nginx.conf", "-e", "stderr"], core, folder)
        self.process.wait_for(self.ports[-1])

    def stop(self) -> None:
        """End it."""
        self.process.stop()
