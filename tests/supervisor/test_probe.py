"""Probes: what passes, what does not, and why, in words for people."""

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from balancer.supervisor.probe import ProbeFailed, probe
from balancer.supervisor.spec import ProbeSpec
from tests.support.ports import free_port

QUICK = ProbeSpec(timeout=1.0)


@asynccontextmanager
async def answering(answer: bytes | None) -> AsyncIterator[int]:
    """The port of a server that gives this answer to anything; None: it never answers."""
    heads: list[bytes] = []

    async def serve(stream: trio.SocketStream) -> None:
        heads.append(await stream.receive_some(4096))
        if answer is None:
            await trio.sleep_forever()
        try:
            await stream.send_all(answer)
        except trio.BrokenResourceError:
            pass
        await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, listeners)
        yield listeners[0].socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def ok(status: int = 200, body: bytes = b"fine") -> bytes:
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


HTTP = replace(QUICK, path="/healthz")
ENDLESS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1000\r\n" + b"x" * 4096 + b"\r\n") * 40


@pytest.mark.parametrize(
    ("answer", "spec", "why"),
    [
        (b"", QUICK, None),
        (ok(), HTTP, None),
        (ok(399), HTTP, None),
        (ok(404), HTTP, "status 404"),
        (ok(204, b""), replace(HTTP, status=((200, 200), (204, 204))), None),
        (ok(201), replace(HTTP, status=((200, 200), (204, 204))), "status 201"),
        (ok(), replace(HTTP, body=re.compile(rb"^fi")), None),
        (ok(body=b"bad"), replace(HTTP, body=re.compile(rb"fine")), "the body does not contain"),
        (ENDLESS, replace(HTTP, body=re.compile(rb"fine")), "the body does not contain"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", HTTP, "no whole HTTP response"),
        (b"", HTTP, "before a whole HTTP response head"),
        (None, replace(HTTP, timeout=0.1), r"no answer within 0\.1 s"),
    ],
)
async def test_answers(answer: bytes | None, spec: ProbeSpec, why: str | None) -> None:
    async with answering(answer) as port:
        with trio.fail_after(10):
            if why is None:
                await probe("127.0.0.1", port, spec)
            else:
                with pytest.raises(ProbeFailed, match=why):
                    await probe("127.0.0.1", port, spec)


async def test_nobody_there() -> None:
    with pytest.raises(ProbeFailed, match="Connection refused"):
        await probe("127.0.0.1", free_port(), QUICK)
    with pytest.raises(ProbeFailed, match="No such file"):
        await probe("unix:/nowhere/at/all", 0, QUICK)


async def test_a_connect_that_met_itself_is_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    made = trio.socket.socket

    def bound(*kind: int) -> trio.socket.SocketType:
        """As the kernel chooses now and then: the source port is the one that nobody listens on."""
        sock = made(*kind)
        sock._sock.bind(("127.0.0.1", port))  # type: ignore[attr-defined]
        return sock

    monkeypatch.setattr(trio.socket, "socket", bound)
    with pytest.raises(ProbeFailed, match="Connection refused"):
        await probe("127.0.0.1", port, QUICK)


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        await probe(f"unix:{path}", 0, QUICK)
