"""Free ports for programs that cannot be given port 0."""

import random
import socket

# Each is given once: a port that is not bound yet looks free to the next who asks.
_given: set[int] = set()


def free_port() -> int:
    """A port on 127.0.0.1 that nobody listened on a moment ago, and that nobody else in this run was given.

    Below the kernel's ephemeral range, so that no outgoing connection and no bind to port 0 takes it meanwhile.
    """
    while True:
        port = random.randrange(20000, 32000)
        if port in _given:
            continue
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given.add(port)
        return port
