"""What a Python backend imports: harmless without a balancer, whole lines with one, and never a wait."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parents[1]
ALONE = """
from balancer import backend
print(backend.ready(), backend.stopping(), backend.heartbeat(), backend.send("web-1", 1), backend.broadcast(2))
print(list(backend.messages()), backend.reply({"type": "ask", "id": 1}, 3))
"""
FLOOD = """
import threading, time
from balancer import backend
def many(number):
    for turn in range(2000):
        backend.broadcast([number, turn, "x" * 1000])
threads = [threading.Thread(target=many, args=(number,)) for number in range(4)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print("done", flush=True)
print(len(list(backend.messages())))
"""


async def run(script: str, fds: tuple[int, ...] = (), **env: str) -> str:
    """What it prints."""
    with trio.fail_after(30):
        done = await trio.run_process(
            [sys.executable, "-c", script],
            env={"PATH": os.defpath, "PYTHONPATH": str(ROOT), **env},
            capture_stdout=True,
            stdin=subprocess.DEVNULL,
            pass_fds=fds,
        )
    return done.stdout.decode()


async def test_without_a_balancer_nothing_happens() -> None:
    assert await run(ALONE) == "False False False False False\n[] False\n"
    # A Node.js parent's channel is not ours.
    assert await run(ALONE, NODE_CHANNEL_FD="0") == "False False False False False\n[] False\n"


async def test_threads_do_not_tear_each_others_lines() -> None:
    ours, theirs = socket.socketpair()
    lines: list[str] = []
    async with trio.open_nursery() as nursery:

        async def read() -> None:
            rest = b""
            while data := await stream.receive_some(65536):
                *whole, rest = (rest + data).split(b"\n")
                lines.extend(line.decode() for line in whole)
                if len(lines) == 8000:
                    await stream.send_all(b'1\nnonsense\n"two"\n')
                    await stream.send_eof()

        stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
        nursery.start_soon(read)
        with theirs:
            told = await run(FLOOD, (theirs.fileno(),), BALANCER_BACKEND="web-0", NODE_CHANNEL_FD=str(theirs.fileno()))
    assert told == "done\n2\n"
    sent = [json.loads(line)["data"][:2] for line in lines]
    assert sorted(sent) == [[number, turn] for number in range(4) for turn in range(2000)]


async def test_a_balancer_that_does_not_read_holds_nobody_up() -> None:
    ours, theirs = socket.socketpair()
    script = "from balancer import backend\nprint(sum(backend.broadcast('x' * 100000) for _ in range(30)) < 30)"
    with ours, theirs:
        told = await run(script, (theirs.fileno(),), BALANCER_BACKEND="web-0", NODE_CHANNEL_FD=str(theirs.fileno()))
    assert told == "True\n"
