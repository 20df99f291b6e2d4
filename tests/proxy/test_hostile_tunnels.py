"""Tunnels as real WebSocket programs use them, and ends that do not come."""

import base64
import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from balancer.proxy import tunnel
from tests.proxy.ends import PATIENCE, End, Origin
from tests.proxy.harness import backend, front

MIB = 1024 * 1024


def upgrade(token: str) -> bytes:
    return f"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: {token}\r\n\r\n".encode()


def switch(token: str) -> bytes:
    return f"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: {token}\r\n\r\n".encode()


@contextmanager
def websocket_server() -> Iterator[int]:
    """An echo server of the websockets library; its port."""

    def echo(connection: ServerConnection) -> None:
        for message in connection:
            if message == "leave":
                connection.close(4001, "as you say")
            connection.send(message)

    with serve(echo, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


async def test_a_websocket_between_real_programs() -> None:
    def converse(url: str) -> None:
        with connect(url, max_size=None, compression=None, proxy=None) as client:
            client.send("text \N{SNOWMAN}")
            assert client.recv(5) == "text \N{SNOWMAN}"
            assert client.ping().wait(5)
            large = bytes(range(256)) * (8 * MIB // 256)
            client.send(large)
            assert client.recv(20) == large
            for number in range(200):
                client.send(str(number))
            assert [client.recv(5) for _ in range(200)] == [str(number) for number in range(200)]
            client.send("leave")
            with pytest.raises(ConnectionClosed) as caught:
                client.recv(5)
            assert caught.value.rcvd is not None
            assert (caught.value.rcvd.code, caught.value.rcvd.reason) == (4001, "as you say")
        with connect(url, proxy=None) as compressed:
            compressed.send("a" * 100_000)
            assert compressed.recv(5) == "a" * 100_000

    with websocket_server() as port:
        async with front(backends=(backend(0, port),)) as proxy:
            await trio.to_thread.run_sync(converse, f"ws://127.0.0.1:{proxy.address[1]}/chat")
            await proxy.idle()
            assert proxy.codes() == {"101": 2}


async def test_a_client_that_gets_no_pong_leaves_and_all_is_over() -> None:
    """A backend that is connected and dead: the client's own timeout ends the tunnel on both sides."""

    async def dead(origin: Origin, end: End) -> None:
        head = await end.head()
        key = head.one("sec-websocket-key").encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key, usedforsecurity=False).digest())
        await end.send(switch("websocket")[:-2] + b"Sec-WebSocket-Accept: %s\r\n\r\n" % accept)
        await end.rest()

    def wait(url: str) -> None:
        client = connect(url, ping_interval=0.1, ping_timeout=0.2, close_timeout=0.1, proxy=None)
        with client, pytest.raises(ConnectionClosed):
            client.recv(5)

    origin = Origin(dead)
    async with front(origin) as proxy:
        await trio.to_thread.run_sync(wait, f"ws://127.0.0.1:{proxy.address[1]}/")
        await origin.until(lambda origin: origin.open == 0, 2)


async def test_100_mib_in_both_directions_at_once() -> None:
    size = 100 * MIB
    piece = bytes(range(256)) * 1024

    async def drink(end: End) -> int:
        count = len(end.buffer)
        while data := await end.stream.receive_some(MIB):
            count += len(data)
        return count

    async def pour(end: End) -> None:
        for _ in range(size // len(piece)):
            await end.stream.send_all(piece)
        await end.stream.send_eof()

    async def both(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(switch("bulk/1"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(pour, end)
            counts.append(await drink(end))

    counts: list[int] = []
    origin = Origin(both)
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(upgrade("bulk/1"))
        head = await client.head()
        assert (head.status, head.one("upgrade")) == (101, "bulk/1")
        with trio.fail_after(30):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pour, client)
                counts.append(await drink(client))
            await origin.until(lambda origin: origin.open == 0)
    assert counts == [size, size]


async def test_one_end_that_stays_open_does_not_keep_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tunnel, "LAST_WORDS", 1.0)

    async def silent(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(switch("x"))
        await end.more()
        await trio.sleep_forever()

    async def talkative(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(switch("x"))
        await end.more()
        for _ in range(6):  # longer than a silent one would be given
            await trio.sleep(0.25)
            await end.send(b".")

    for script, last in ((silent, b""), (talkative, b"......")):
        async with front(Origin(script)) as proxy, proxy.client() as client:
            await client.send(upgrade("x"))
            assert (await client.head()).status == 101
            await client.stream.send_eof()
            with trio.fail_after(PATIENCE):
                assert await client.rest() == last


async def test_what_a_backend_may_switch_to() -> None:
    async def switcher(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(switch("B/2") + b"hello")

    async with front(Origin(switcher)) as proxy:
        for offered, status in (("a, b/2", 101), ("b/2", 101), ("a", 502), ("b/3", 502)):
            async with proxy.client() as client:
                await client.send(upgrade(offered))
                assert (await client.head()).status == status, offered


async def test_connect_is_refused_in_every_form() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        for target in (b"a.example:443", b"/", b"http://a.example/", b"*"):
            answer = await proxy.ask(b"CONNECT %s HTTP/1.1\r\nHost: a.example:443\r\n\r\n" % target)
            assert (answer.status, answer.one("connection")) == (405, "close")
    assert not origin.opened
