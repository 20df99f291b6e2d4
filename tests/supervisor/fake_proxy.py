"""A proxy that carries nothing: speaks the channel as `balancer.proxy` does, and prints what it is told.

`python -m tests.supervisor.fake_proxy CHANNEL_FD …`. A pool whose name says so steers it: "mute" never reports "drained".
"""

import json
import socket
import sys
from typing import Any


def main() -> None:
    """Apply every snapshot; say "drained" for whatever drains or is gone; end on "stop"."""
    channel = socket.socket(fileno=int(sys.argv[1]))
    known: set[tuple[str, int]] = set()
    ready = False

    def say(**value: Any) -> None:
        channel.sendall(json.dumps(value).encode() + b"\n")

    for line in channel.makefile("rb"):
        value = json.loads(line)
        print(value["type"], value.get("number", ""), flush=True)
        if value["type"] in ("stop", "stop_now"):
            return
        if value["type"] == "report":
            request = {"method": "GET", "path": "/slow", "seconds": 2.5}
            say(type="draining", backend=value["backend"], generation=value["generation"], requests=[request])
        if value["type"] != "snapshot":
            continue
        say(type="applied", number=value["number"])
        if not ready:
            ready = True
            say(type="ready")
            say(type="log", level="info", event="fake", slot=sys.argv[4])
        seen = {(b["name"], b["generation"]): b["draining"] for pool in value["pools"] for b in pool["backends"]}
        for name, generation in known:
            if seen.get((name, generation), True) and not name.startswith("mute"):
                say(type="drained", backend=name, generation=generation)
        known = {id for id, draining in seen.items() if not draining}  # noqa: A001


if __name__ == "__main__":
    main()
