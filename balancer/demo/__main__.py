"""`python -m balancer.demo`: takes the options, serves until SIGTERM or SIGINT, then finishes what is in progress."""

import argparse
import os
import signal
import sys

from balancer.demo.server import Server


def main() -> None:
    """Run until a signal asks to stop; a second one stops at once."""
    options = argparse.ArgumentParser(prog="python -m balancer.demo", description="An HTTP app to try a balancer with.")
    options.add_argument("--host", default=os.environ.get("HOST", "127.0.0.1"), help="default: $HOST, then 127.0.0.1")
    options.add_argument(
        "--port", type=int, default=int(os.environ.get("PORT", "8000")), help="default: $PORT, then 8000"
    )
    options.add_argument("--grace", type=float, default=10.0, help="seconds that requests in progress get at the end")
    given = options.parse_args()
    wanted = {signal.SIGTERM, signal.SIGINT}
    # Blocked before any thread exists: all threads inherit it, and only the wait below takes them.
    signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        server = Server(given.host, given.port)
    except OSError as error:
        sys.exit(f"demo: cannot listen on {given.host}:{given.port}: {error.strerror}")
    sys.stderr.write(f"demo: listening on http://{server.address} (pid {os.getpid()})\n")
    server.start()
    signal.sigwait(wanted)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, wanted)
    for number in wanted:
        signal.signal(number, signal.SIG_DFL)
    server.stop(given.grace)


if __name__ == "__main__":
    main()
