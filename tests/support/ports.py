"""Free ports for programs that cannot be given port 0."""

import random
import socket


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listened on a moment ago.

    Below the kernel's ephemeral range, so that no outgoing connection and no bind to port 0 takes it meanwhile.
    """
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
