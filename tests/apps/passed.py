"""A Python backend that is passed connections (`mode = "pass"`); argv[1] is how it takes them: "thread", "asyncio" or "trio".

Answers each connection's one request with the name of its backend, and prints the messages that it hears.
"""

import os
import socket
import sys
import threading

from balancer import backend

ANSWER = os.environ["BALANCER_BACKEND"].encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n" % len(ANSWER)


def serve(connection: socket.socket) -> None:
    """One request, whatever it is."""
    with connection:
        connection.recv(65536)
        connection.sendall(HEAD + ANSWER)


def heard(message: object) -> None:
    """Show it."""
    print(f"heard {message!r}", flush=True)


async def in_task() -> None:
    """Under asyncio or trio."""
    async for connection in backend.connections(heard):
        threading.Thread(target=serve, args=[connection]).start()


if __name__ == "__main__":
    backend.ready()
    match sys.argv[1]:
        case "thread":
            for connection in backend.connections(heard):
                threading.Thread(target=serve, args=[connection]).start()
        case "asyncio":
            import asyncio

            asyncio.run(in_task())
        case "trio":
            import trio

            trio.run(in_task)
