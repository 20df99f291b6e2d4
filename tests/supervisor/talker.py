"""A Python backend that uses `balancer.backend`; argv[1] is how: "thread", "asyncio" or "trio". Prints what it hears.

Says "ready". Asked "work" it replies, "fail": with an error, "die": it ends; asked anything else it is silent. On "ask" it asks
the others who they are.
"""

import json
import os
import socket
import sys
from typing import Any

from balancer import backend

ME = os.environ["BALANCER_BACKEND"]


def begin() -> socket.socket:
    """Listen, and say so to everybody."""
    listener = socket.create_server((os.environ["HOST"], int(os.environ["PORT"])))
    assert backend.ready()
    return listener


def heard(message: Any) -> None:
    """Show it, and answer a question."""
    print(json.dumps(message), flush=True)
    if isinstance(message, dict) and message.get("data") == "who?":
        backend.send(message["from"], f"I am {ME}")
    if message == "ask":
        backend.broadcast("who?")
    if isinstance(message, dict) and message.get("type") == "ask":
        match message["data"]:
            case "work":
                assert backend.reply(message, {"done by": ME})
            case "fail":
                assert backend.reply(message, error="no such work")
            case "die":
                os._exit(3)
    else:
        assert not backend.reply(message, "nobody asked")


def in_thread() -> None:
    """The plain way."""
    for message in backend.messages():
        heard(message)


async def in_task() -> None:
    """Under asyncio or trio."""
    async for message in backend.messages():
        heard(message)


if __name__ == "__main__":
    with begin():
        match sys.argv[1]:
            case "thread":
                in_thread()
            case "asyncio":
                import asyncio

                asyncio.run(in_task())
            case "trio":
                import trio

                trio.run(in_task)
