"""Connections passed on: round robin over who takes them, past a backend that does not read, never to one that is draining."""

import json
import os
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import trio

from balancer.channel.descriptors import receive
from balancer.channel.lines import Channel
from balancer.pool.snapshot import ListenerPicture, Snapshot
from balancer.proxy import process
from balancer.telemetry.table import Table
from tests.proxy.harness import POOL, PROXY, backend

LINE = {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "connection"}
PATIENCE = 5


class Passing:
    """A proxy with a listener whose connections are passed, and the backends' ends of their channels."""

    def __init__(self, backends: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.address = self.listener.getsockname()
        ours, theirs = socket.socketpair()
        self.channel = Channel(ours)
        self.proxy = process.Proxy(Channel(theirs, takes_descriptors=True), Table.create(1), 0, {"web": self.listener})
        self.doors = [socket.socketpair() for _ in range(backends)]
        self._number = 0

    def show(self, **changes: dict[str, Any]) -> None:
        """A snapshot; changes: of a backend's picture, by name without its hyphen."""
        self._number += 1
        pictures = [backend(n, 1, **changes.get(f"web{n}", {})) for n in range(len(self.doors))]
        listener = ListenerPicture("web", 0, "web", mode="pass")
        pool = replace(POOL, backends=tuple(pictures))
        self.channel.send(Snapshot(self._number, PROXY, (listener,), (), (pool,)).to_json())

    def open(self, number: int) -> None:
        """The door of one backend."""
        message = {"type": "door", "pool": "web", "backend": f"web-{number}", "generation": 1, "line": LINE}
        self.channel.send(message, [self.doors[number][0].fileno()])

    async def connect(self) -> trio.SocketStream:
        """A client."""
        return await trio.open_tcp_stream(*self.address[:2])

    async def came(self, number: int) -> socket.socket:
        """The next connection that one backend is passed."""
        with trio.fail_after(PATIENCE):
            await trio.lowlevel.wait_readable(self.doors[number][1])
        data, descriptors = receive(self.doors[number][1], 4096, 4)
        assert [json.loads(line) for line in data.splitlines()] == [LINE]
        return socket.socket(fileno=descriptors[0])

    def has_come(self, number: int) -> bool:
        """Whether something waits there."""
        try:
            return bool(self.doors[number][1].recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return False


@asynccontextmanager
async def passing(backends: int) -> AsyncIterator[Passing]:
    made = Passing(backends)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.channel.run)
        nursery.start_soon(made.proxy.run)
        made.show()
        yield made
        made.channel.send({"type": "stop_now"})
        made.channel.close()
        nursery.cancel_scope.cancel()
    for ours, theirs in made.doors:
        ours.close()
        theirs.close()


async def test_each_in_turn_and_the_connection_itself() -> None:
    async with passing(3) as front:
        for number in range(3):
            front.open(number)
        for _ in range(2):
            for number in range(3):
                async with await front.connect() as client:
                    with await front.came(number) as connection:
                        connection.sendall(b"hello")
                    with trio.fail_after(PATIENCE):
                        assert await client.receive_some() == b"hello"
                        # Nobody else holds it open.
                        assert await client.receive_some() == b""


async def test_it_waits_until_somebody_has_a_door_and_passes_who_drains_or_left() -> None:
    async with passing(2) as front:
        async with await front.connect():
            assert not front.has_come(0)
            front.open(1)
            (await front.came(1)).close()
        front.open(0)
        front.show(web0={"draining": True, "takes_requests": False})
        with trio.fail_after(PATIENCE):
            while (await front.channel.receive()) != {"type": "applied", "number": 2}:
                pass
        for _ in range(2):
            async with await front.connect():
                (await front.came(1)).close()
        front.show()
        front.doors[0][1].close()
        for _ in range(3):
            async with await front.connect():
                (await front.came(1)).close()


async def test_a_backend_that_does_not_read_is_passed_over() -> None:
    async with passing(2) as front:
        front.doors[0][0].setblocking(False)
        try:
            while True:
                front.doors[0][0].send(b"x" * 1000)
        except BlockingIOError:
            pass
        front.open(0)
        front.open(1)
        for _ in range(4):
            async with await front.connect():
                (await front.came(1)).close()
        # All full: it waits, and goes to the first that reads again.
        front.proxy._doors.close(("web", "web-1", 1))
        async with await front.connect() as client:
            while True:
                with trio.fail_after(PATIENCE):
                    await trio.lowlevel.wait_readable(front.doors[0][1])
                _, descriptors = receive(front.doors[0][1], 65536, 4, socket.MSG_DONTWAIT)
                if descriptors:
                    break
            os.close(descriptors[0])
            with trio.fail_after(PATIENCE):
                assert await client.receive_some() == b""
