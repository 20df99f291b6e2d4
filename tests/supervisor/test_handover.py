"""What a process inherits: its listening sockets from 3 on in order, whatever numbers are free here; and ports that nobody can take."""

import json
import os
import socket
import sys

import pytest
import trio

from balancer.supervisor import spawn
from balancer.supervisor.output import capture
from balancer.supervisor.ports import Ports
from balancer.supervisor.probe import queue_length

# What the child finds: names of its sockets, and whether LISTEN_PID is its own.
LOOK = """
import json, os, socket
count = int(os.environ["LISTEN_FDS"])
fds = sorted(int(name) for name in os.listdir("/proc/self/fd"))
ports = [socket.socket(fileno=3 + n).getsockname()[1] for n in range(count)]
print(json.dumps([ports, os.environ["LISTEN_PID"] == str(os.getpid()), os.environ["OTHER"], os.environ.get("HOME"), fds]))
"""


async def seen_by_a_child(listening: list[int], descriptors: list[int]) -> list[object]:
    """LOOK's line."""
    lines: list[str] = []
    env = {"LISTEN_FDS": str(len(listening)), "OTHER": "ä=ö", "PATH": os.environ["PATH"]}
    process = spawn.start([sys.executable, "-c", LOOK], env=env, cwd="/", descriptors=descriptors, listening=listening)
    with trio.fail_after(10):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(process.watch)
            nursery.start_soon(capture, process.out, lines.append, process.exited)
            nursery.start_soon(capture, process.err, lines.append, process.exited)
    assert process.returncode == 0, lines
    found: list[object] = json.loads(lines[0])
    return found


async def test_listening_sockets_stand_from_3_on_in_order() -> None:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(3)]
    ours, theirs = spawn.socket_pair()
    with ours, theirs, sockets[0], sockets[1], sockets[2]:
        ports = [sock.getsockname()[1] for sock in sockets]
        open_after = []
        for order in ([0, 1, 2], [2, 0, 1], [1]):
            found = await seen_by_a_child([sockets[n].fileno() for n in order], [theirs.fileno()])
            wanted = [*range(3 + len(order)), theirs.fileno()]
            # One more: the folder that it lists.
            assert found[:4] == [[ports[n] for n in order], True, "ä=ö", None]
            assert set(wanted) <= set(found[4])  # type: ignore[call-overload]
            assert len(found[4]) == len(wanted) + 1  # type: ignore[arg-type]
            open_after.append(len(os.listdir("/proc/self/fd")))
        assert len(set(open_after)) == 1, "the first may have started the guard, the others leave nothing behind"


async def test_whatever_is_free_or_taken_here() -> None:
    ours, theirs = spawn.socket_pair()
    with ours, theirs, socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [two.getsockname()[1], one.getsockname()[1]]
        listening = [two.fileno(), one.fileno()]
        # Two sockets in each other's places, as they are where a process opens them first.
        saved = [os.dup(3), os.dup(4)]
        try:
            os.dup2(listening[1], 3, False)
            os.dup2(listening[0], 4, False)
            found = await seen_by_a_child([4, 3], [theirs.fileno()])
        finally:
            os.dup2(saved[0], 3, False)
            os.dup2(saved[1], 4, False)
            for copy in saved:
                os.close(copy)
        assert found[:2] == [ports, True]


async def test_a_program_that_cannot_be_run_is_said_also_with_sockets() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock, pytest.raises(spawn.CannotStart, match="cannot be started"):
        spawn.start(["/etc/hostname"], env={"PATH": ""}, cwd="/", listening=[sock.fileno()])


def test_a_port_that_listens_is_given_once_and_given_back() -> None:
    ports = Ports()
    with ports.listen("127.0.0.1", None) as sock:
        port = sock.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            assert queue_length(sock) == 1
            with sock.accept()[0] as accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert queue_length(sock) == 0
        with pytest.raises(OSError, match="in use"):
            socket.create_server(("127.0.0.1", port))
    ports.give_back(port)
