"""Inherits a listening socket and accepts only after argv[1] seconds; the standard library's server, told not to bind."""

import os
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Answer(BaseHTTPRequestHandler):
    """Its name."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Any target."""
        body = os.environ["BALANCER_BACKEND"].encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    assert os.environ["LISTEN_PID"] == str(os.getpid())
    server = ThreadingHTTPServer(("", 0), Answer, bind_and_activate=False)
    server.socket.close()
    server.socket = socket.socket(fileno=3)
    server.daemon_threads = True
    print("working for a while", flush=True)
    time.sleep(float(sys.argv[1]))
    server.serve_forever()
