"""The file that `balancer init` writes: short, commented, and it loads."""

SAMPLE = """\
# What the balancer serves and what it starts. Every key: `balancer check --explain`.
# After a change: `balancer check`, then `balancer reload`.

[listen.web]
address = "127.0.0.1:8080"          # "0.0.0.0:8080" to be reached from other machines

[pool.web]
# The program that serves your app on the port it is given; {port} and {host} are filled in, and also in the
# environment as PORT and HOST. No shell is run. Some others:
#   node server.js
#   uvicorn app:app --host {host} --port {port} --timeout-keep-alive 5
#   gunicorn app:app --bind {host}:{port}
#   bundle exec puma -b tcp://{host}:{port}
command = "python -m balancer.demo --host {host} --port {port}"
backends = 2                        # or "auto": one per usable CPU
#env = {NODE_ENV = "production"}
#policy = "least-connections"       # when some requests take much longer than others

[pool.web.health]
path = "/healthz"                   # leave it out, and a TCP connect is the probe
interval = "2s"

[pool.web.stop]
drain_timeout = "30s"               # requests in flight get this long before a backend is stopped

[admin]
address = "127.0.0.1:9901"          # status page, /metrics, /readyz

[log]
level = "info"
#access = "stderr"                  # or a path: one line per request
"""


def sample() -> str:
    """The text of the file."""
    return SAMPLE
