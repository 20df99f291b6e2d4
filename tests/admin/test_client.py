"""The client over a real control socket: answers, streams, and every way in which there is none."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from balancer.admin.client import Client, NoAnswer, NotRunning, Refused
from tests.admin.fake import STATUS, FakeOperations, controlled

CONFIG = Path("cluster.toml")


async def in_thread(function: Any, *args: Any, **options: Any) -> Any:
    return await trio.to_thread.run_sync(partial(function, *args, **options))


def collect(client: Client, method: str, path: str, **query: Any) -> list[Any]:
    return list(client.stream(method, path, **query))


async def test_answers_and_streams(tmp_path: Path) -> None:
    operations, path = FakeOperations(), tmp_path / "cluster.sock"
    client = Client(path, CONFIG)
    operations.ring.record("started", backend="web-0")
    operations.output.line("web", "web-0", 1, "stdout", '{"looks": "like JSON"}')
    async with controlled(operations, path):
        assert await in_thread(client.get, "/api/v1/status") == STATUS
        assert await in_thread(collect, client, "POST", "/api/v1/reload") == operations.steps
        (event,) = await in_thread(collect, client, "GET", "/api/v1/events", last=5, follow=0)
        assert event["text"] == "web-0 started"
        (line,) = await in_thread(collect, client, "GET", "/api/v1/logs", last=5)
        assert line["line"] == '{"looks": "like JSON"}'
        assert (await in_thread(client.pid)) > 0
        # The control socket needs no token, not even for this.
        assert await in_thread(client.post, "/api/v1/stop") == {"ok": True}
        with pytest.raises(Refused, match="stopping already"):
            await in_thread(client.post, "/api/v1/stop")
        with pytest.raises(Refused, match="no pool 'gone'"):
            await in_thread(collect, client, "GET", "/api/v1/logs", pool="gone")


def test_nobody_there(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    with pytest.raises(NotRunning, match=r"no balancer is running with cluster\.toml"):
        Client(path, CONFIG).get("/api/v1/status")
    path.write_text("not a socket")
    with pytest.raises(NotRunning):
        Client(path, CONFIG).pid()


@contextmanager
def speaking(path: Path, answer: bytes, then_close: bool = True) -> Iterator[None]:
    """Something else on the control socket, which says the same to everybody."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen()
    done = threading.Event()

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(answer)
            if not then_close:
                done.wait(10)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
        listener.close()


@pytest.mark.parametrize(
    ("answer", "part"),
    [
        (b"", "broke off"),
        (b"SSH-2.0-OpenSSH\r\n", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{", "broke off"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{", "not JSON"),
    ],
)
def test_nonsense(tmp_path: Path, answer: bytes, part: str) -> None:
    path = tmp_path / "cluster.sock"
    with speaking(path, answer), pytest.raises(NoAnswer, match=part):
        Client(path, CONFIG).get("/api/v1/status")


def test_silence(tmp_path: Path) -> None:
    path = tmp_path / "cluster.sock"
    with speaking(path, b"", then_close=False), pytest.raises(NoAnswer, match=r"within 0\.1 s"):
        Client(path, CONFIG, silence=0.1).get("/api/v1/status")
