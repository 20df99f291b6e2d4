"""The demo app as its users see it: over a real socket, started as its README line says."""

import fcntl
import json
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
import trio
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support.ports import free_port
from tests.support.running import ROOT


class Demo:
    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "balancer.demo", "--port", str(self.port)],
            cwd=ROOT, env={"BALANCER_BACKEND": "demo-1", "BALANCER_GENERATION": "7"}, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.process.stderr is not None
        self.line = self.process.stderr.readline()


@pytest.fixture
def demo() -> Iterator[Demo]:
    demo = Demo()
    yield demo
    demo.process.kill()
    demo.process.wait()
    assert demo.process.stderr is not None
    demo.process.stderr.close()


@pytest.fixture
async def client(demo: Demo) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=demo.url, timeout=20, trust_env=False) as client:
        yield client


async def test_says_who_answers(demo: Demo, client: httpx.AsyncClient) -> None:
    assert f":{demo.port}" in demo.line
    told = (await client.get("/")).json()
    assert (told["pid"], told["backend"], told["generation"]) == (demo.process.pid, "demo-1", "7")
    assert ["X-Probe", "1"] in (await client.get("/headers", headers=[("X-Probe", "1")])).json()["headers"]
    assert (await client.get("/healthz")).status_code == 200
    page = await client.get("/", headers={"Accept": "text/html"})
    assert "demo-1" in page.text
    assert "ABOUT" not in page.text
    assert (await client.get("/nothing")).status_code == 404
    assert (await client.get("/slow?seconds=soon")).status_code == 400


async def test_fails_at_the_asked_rate(client: httpx.AsyncClient) -> None:
    assert (await client.get("/fail?status=503")).status_code == 503
    seen = {(await client.get("/fail?rate=0.5")).status_code for _ in range(60)}
    assert seen == {200, 500}


@pytest.mark.parametrize("chunked", [False, True])
async def test_echoes_any_body(client: httpx.AsyncClient, chunked: bool) -> None:
    body = bytes(range(256)) * 8000

    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(body), 100_000):
            yield body[start : start + 100_000]

    answer = await client.put("/echo", content=pieces() if chunked else body)
    assert answer.content == body
    assert ("content-length" in answer.headers) is not chunked
    assert (await client.get("/bytes?n=300000")).headers["content-length"] == "300000"


def test_echo_does_not_wait_for_the_whole_body(demo: Demo) -> None:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as sock, sock.makefile("rb") as answer:
        sock.sendall(b"POST /echo HTTP/1.1\r\nHost: demo\r\nContent-Length: 10\r\nExpect: 100-continue\r\n\r\n")
        assert [answer.readline() for _ in range(3)] == [b"HTTP/1.1 100 Continue\r\n", b"\r\n", b"HTTP/1.1 200 OK\r\n"]
        while answer.readline().strip():
            pass
        sock.sendall(b"hello")
        assert answer.read(5) == b"hello"
        sock.sendall(b"world")
        assert answer.read(5) == b"world"


def test_connections_are_kept(demo: Demo) -> None:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as sock, sock.makefile("rb") as answer:
        for body in (b"unread by the handler", b""):
            sock.sendall(b"POST /healthz HTTP/1.1\r\nHost: demo\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
            assert answer.readline() == b"HTTP/1.1 200 OK\r\n"
            while answer.readline().strip():
                pass
            assert answer.read(3) == b"ok\n"
        sock.sendall(b"nonsense\r\n\r\n")
        assert answer.readline() == b"HTTP/1.1 400 Bad Request\r\n"


async def test_streams_and_events(client: httpx.AsyncClient) -> None:
    started = time.monotonic()
    assert (await client.get("/stream?count=3")).text.count("line") == 3
    assert time.monotonic() - started >= 0.4
    events = await client.get("/events?count=2&seconds=0.01")
    assert events.headers["content-type"] == "text/event-stream"
    assert [json.loads(line[6:])["backend"] for line in events.text.splitlines() if line[:5] == "data:"] == [
        "demo-1"
    ] * 2


def test_websocket_echo(demo: Demo) -> None:
    with connect(f"ws://127.0.0.1:{demo.port}/ws", compression=None) as socket:
        for message in ("hello", b"\x00\xff" * 40_000, ""):
            socket.send(message)
            assert socket.recv(timeout=20) == message
        socket.send(iter(["in ", "three ", "pieces"]))
        assert socket.recv(timeout=20) == "in three pieces"
        assert socket.ping(b"there?").wait(20)
        socket.close(1000)
        assert socket.close_code == 1000


@pytest.mark.parametrize(
    ("sent", "code"),
    [(b"\x81\x01a", 1002), (b"\xc1\x80....", 1002), (b"\x80\x80....", 1002), (b"\x81\x81\0\0\0\0\xff", 1007)],
    ids=["unmasked", "reserved bit", "continues nothing", "not utf-8"],
)
def test_websocket_errors_have_their_code(demo: Demo, sent: bytes, code: int) -> None:
    with socket.create_connection(("127.0.0.1", demo.port), timeout=20) as sock, sock.makefile("rb") as answer:
        sock.sendall(
            b"GET /ws HTTP/1.1\r\nHost: demo\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: a2V5\r\n\r\n"
        )
        while answer.readline().strip():
            pass
        sock.sendall(sent)
        assert answer.read() == b"\x88\x02" + code.to_bytes(2, "big")


async def test_a_crash_is_a_crash(demo: Demo, client: httpx.AsyncClient) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/crash?code=3")
    assert demo.process.wait(20) == 3


async def test_stop_finishes_what_is_in_progress(demo: Demo, client: httpx.AsyncClient) -> None:
    idle = await trio.open_tcp_stream("127.0.0.1", demo.port)
    slow = await trio.open_tcp_stream("127.0.0.1", demo.port)
    with connect(f"ws://127.0.0.1:{demo.port}/ws") as websocket:
        async with client.stream("GET", "/events") as events:
            lines = events.aiter_lines()
            await anext(lines)
            await slow.send_all(b"GET /slow?seconds=0.5 HTTP/1.1\r\nHost: demo\r\n\r\n")
            await arrived(slow)
            demo.process.send_signal(signal.SIGTERM)
            assert [line async for line in lines][-1] == ""
        answer = await rest(slow)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"\r\nConnection: close\r\n" in answer
        assert await rest(idle) == b""
        with pytest.raises(ConnectionClosed):
            websocket.recv(timeout=20)
        assert websocket.close_code == 1001
    assert demo.process.wait(20) == 0


async def test_stop_answers_what_waits_to_be_accepted(demo: Demo) -> None:
    demo.process.send_signal(signal.SIGSTOP)
    streams = [await trio.open_tcp_stream("127.0.0.1", demo.port) for _ in range(20)]
    for stream in streams:
        await stream.send_all(b"GET / HTTP/1.1\r\nHost: demo\r\n\r\n")
        await arrived(stream)
    demo.process.send_signal(signal.SIGTERM)
    demo.process.send_signal(signal.SIGCONT)
    for stream in streams:
        answer = await rest(stream)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"}\n")
    assert demo.process.wait(20) == 0
    with pytest.raises(OSError, match="connect"):
        await trio.open_tcp_stream("127.0.0.1", demo.port)


async def arrived(stream: trio.SocketStream) -> None:
    """Until the other end's kernel has confirmed all that was sent; whether its process has looked is another matter."""
    with trio.fail_after(20):
        while fcntl.ioctl(stream.socket.fileno(), termios.TIOCOUTQ, bytes(4)) != bytes(4):  # noqa: ASYNC110
            await trio.sleep(0.001)  # a confirmation has no event


async def rest(stream: trio.SocketStream) -> bytes:
    """All up to the end of the connection."""
    with trio.fail_after(20):
        return b"".join([bytes(piece) async for piece in stream])
