"""Connections over TLS, each for one request, that take up the session of the one before.

`python tests/benchmarks/handshakes.py PORT SECONDS` prints how many there were. wrk makes a full handshake each time.
"""

import socket
import ssl
import subprocess
import sys
import threading
import time
from pathlib import Path

REQUEST = b"GET /shop HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: handshakes\r\nConnection: close\r\n\r\n"
AT_A_TIME = 16


def count(port: int, core: int, seconds: float) -> tuple[int, str]:
    """(connections, what went wrong or ""), made from that core."""
    command = ["taskset", "-c", str(core), sys.executable, str(Path(__file__)), str(port), str(seconds)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds + 30)
    if done.returncode:
        return 0, (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return int(done.stdout), ""


def trusting_all() -> ssl.SSLContext:
    """A client's context that looks at no certificate: what that costs is the client's affair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect_often(port: int, until: float) -> int:
    """How many came about. Raises RuntimeError when an answer is not 200, or a session was not taken up."""
    context = trusting_all()
    session = None
    connections = 0
    while time.monotonic() < until:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with context.wrap_socket(plain, server_hostname="www.example.com", session=session) as sock:
                sock.sendall(REQUEST)
                answer = b""
                while data := sock.recv(65536):
                    answer += data
                if not answer.startswith(b"HTTP/1.1 200"):
                    raise RuntimeError(f"answered with {answer[:40]!r}")
                if session is not None and not sock.session_reused:
                    raise RuntimeError("a session was not taken up")
                session = sock.session
        connections += 1
    return connections


def main(port: int, seconds: float) -> int:
    """Several at a time, so that the other side is not woken for each one alone. Returns the exit code."""
    counts: list[int] = []
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=lambda: counts.append(connect_often(port, until))) for _ in range(AT_A_TIME)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(sum(counts))
    return 0 if len(counts) == AT_A_TIME else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]), float(sys.argv[2])))
