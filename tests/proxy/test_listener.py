"""Accepting clients: limits, eviction, and what happens when the process runs out of descriptors."""

import errno
import os
import resource
import socket
import sys
from dataclasses import replace
from typing import Any

import pytest
import trio

from balancer.channel.lines import Channel
from balancer.pool.snapshot import ListenerPicture, Snapshot
from balancer.proxy.listener import Listener
from balancer.telemetry.table import CONNECTIONS_TOTAL, Table
from tests.proxy.ends import AT_ONCE, PATIENCE, End, Origin
from tests.proxy.harness import GET, POOL, PROXY, backend, front


async def test_connections_are_counted() -> None:
    async with front(Origin()) as proxy:
        async with proxy.client(), proxy.client():
            await proxy.quiet()
            assert proxy.gauges() == {"connections": 2, "proxy connections": 2}
        await proxy.ask()
        assert proxy.table.listener_sums(0)[CONNECTIONS_TOTAL] == 3


async def test_the_connection_that_has_been_idle_longest_makes_room() -> None:
    async with (
        front(Origin(), proxy={"max_connections": 3}) as proxy,
        proxy.client() as a,
        proxy.client() as b,
        proxy.client() as c,
    ):
        for client in (a, b, c):
            await client.send(GET)
            await client.response()
        async with proxy.client() as d:
            await d.send(GET)
            assert (await d.response()).status == 200
            assert await a.closed(AT_ONCE)
            # It was next in line, but has been busy since.
            await b.send(GET)
            await b.response()
            async with proxy.client() as e:
                await e.send(GET)
                assert (await e.response()).status == 200
                assert await c.closed(AT_ONCE)
                for client in (b, d, e):
                    await client.send(GET)
                    assert (await client.response()).status == 200


async def test_when_all_are_busy_a_newcomer_waits() -> None:
    async def slow(origin: Origin, end: End) -> None:
        origin.got(await end.request())
        await go.wait()
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    go = trio.Event()
    origin = Origin(slow)
    async with front(origin, proxy={"max_connections": 1}) as proxy, proxy.client() as busy:
        await busy.send(GET)
        await origin.until(lambda origin: len(origin.requests) == 1)
        async with proxy.client() as newcomer:
            await newcomer.send(GET)
            with trio.move_on_after(0.3) as scope:
                await origin.until(lambda origin: len(origin.requests) == 2)
            assert scope.cancelled_caught
            assert proxy.gauges()["connections"] == 1
            go.set()
            assert (await busy.response()).status == 200
            await busy.close()
            assert (await newcomer.response()).status == 200


async def test_a_request_that_has_just_come_is_not_evicted() -> None:
    async with front(Origin()) as proxy, proxy.client() as client:
        await proxy.quiet()
        # In the kernel, but not read yet: the connection still counts as idle.
        assert os.write(client.sock.fileno(), GET) == len(GET)
        (listener,) = proxy.proxy._listeners.values()
        assert isinstance(listener, Listener)
        assert not listener._evict()
        assert (await client.response()).status == 200


async def test_out_of_descriptors() -> None:
    """In a process of its own, because the limit is the process's."""
    origin = Origin()
    ours, theirs = socket.socketpair()
    table = Table.create(1, listeners=1, pools=4, backends=8)
    sock = socket.create_server(("127.0.0.1", 0), backlog=512)
    read_end, write_end = os.pipe2(os.O_NONBLOCK)
    fds = (theirs.fileno(), table.fd, sock.fileno(), read_end, write_end)
    limit = 64
    async with trio.open_nursery() as nursery:
        await nursery.start(origin.run)
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "balancer.proxy", str(fds[0]), str(fds[1]), table.shape, "0", f"{read_end},{write_end}",
             "", f"web={fds[2]}"],
            pass_fds=fds,
        )  # fmt: skip
        theirs.close()
        channel = Channel(ours)
        nursery.start_soon(channel.run)
        picture = replace(POOL, backends=(backend(0, origin.port),))
        channel.send(
            Snapshot(
                1, replace(PROXY, header_timeout=30), (ListenerPicture("web", 0, "web"),), (), (picture,)
            ).to_json()
        )
        told: list[dict[str, Any]] = []

        async def hear(kind: str) -> None:
            with trio.fail_after(PATIENCE):
                while not any(message["type"] == kind for message in told):
                    told.append(await channel.receive())

        try:
            await hear("ready")
            resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (limit, limit))
            # More connections than descriptors, and none idle: they have all begun a request.
            ends = [End(await trio.open_tcp_stream(*sock.getsockname())) for _ in range(limit + 6)]
            for end in ends:
                await end.send(GET[:-2])
            await hear("log")
            assert "descriptors" in told[-1]["event"]
            for end in ends[:40]:
                await end.close()
            with trio.fail_after(PATIENCE):
                # Another process's numbers: there is no event to wait for.
                while table.listener_sums(0)[:2] != [len(ends) - 40, len(ends)]:  # noqa: ASYNC110
                    await trio.sleep(0.01)
            # Those that waited are served now; one that had to wait loses nothing by it.
            for end in ends[40:]:
                await end.send(b"\r\n")
                assert (await end.response()).status == 200
                await end.close()
            channel.send({"type": "stop"})
            with trio.fail_after(PATIENCE):
                assert await process.wait() == 0
        finally:
            process.kill()
            for fd in (read_end, write_end):
                os.close(fd)
            sock.close()
            channel.close()
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM])
async def test_without_a_pipe_large_bodies_are_copied(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: int) -> None:
        raise OSError(number, "")

    body = bytes(range(256)) * 4096
    origin = Origin(answer=b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    async with front(origin) as proxy, proxy.client() as client:
        monkeypatch.setattr(os, "pipe2", refuse)
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
        assert (await client.response()).body == body
        monkeypatch.undo()
    assert origin.requests[0].body == body
