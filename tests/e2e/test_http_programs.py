"""Well-known programs on either side of a real balancer: what they send and expect is not ours to choose."""

import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio
from websockets.sync.client import connect

from tests.support.apps import LISTEN, pool
from tests.support.programs import find
from tests.support.running import Balancer, running

PIECE = bytes(range(256)) * 4096

NODE = """
const http = require("http");
http.createServer((request, response) => {
  const pieces = [];
  request.on("data", piece => pieces.push(piece));
  request.on("end", () => {
    const body = Buffer.concat(pieces);
    if (request.url === "/length") response.setHeader("Content-Length", body.length);
    response.end(body);
  });
}).listen(process.env.PORT, process.env.HOST);
"""

ASGI = """
async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    body, more = b"", True
    while more:
        event = await receive()
        body, more = body + event.get("body", b""), event.get("more_body", False)
    length = [(b"content-length", str(len(body)).encode())] if scope["path"] == "/length" else []
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": body})
"""

WSGI = """
def app(environ, start_response):
    if environ.get("HTTP_TRANSFER_ENCODING"):
        body = environ["wsgi.input"].read()
    else:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    length = [("Content-Length", str(len(body)))] if environ["PATH_INFO"] == "/length" else []
    start_response("200 OK", length)
    return [body]
"""

WEBSOCKET = """
import os
from websockets.sync.server import serve

def echo(connection):
    for message in connection:
        connection.send(message)

with serve(echo, os.environ["HOST"], int(os.environ["PORT"])) as server:
    server.serve_forever()
"""


def own(name: str, *command: str) -> str:
    """A pool of two of these, quickly ready."""
    return f'[pool.{name}]\ncommand = {json.dumps(command)}\nbackends = 2\n[pool.{name}.health]\ninterval = "100ms"\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The backends' programs."""
    for name, text in {"app.js": NODE, "asgi.py": ASGI, "wsgi.py": WSGI, "ws.py": WEBSOCKET}.items():
        (tmp_path / name).write_text(text)
    return tmp_path


async def pieces(body: bytes) -> AsyncIterator[bytes]:
    """A body whose length is not told before."""
    for at in range(0, len(body), 50000):
        yield body[at : at + 50000]


async def talk(balancer: Balancer) -> None:
    """Requests of all sorts on kept connections; every body must come back as it was sent."""
    url = balancer.url

    async def one(number: int) -> None:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as client:
            for turn in range(10):
                body = PIECE[: (0, 1, 1000, 70000, 300000)[turn % 5]] + b"%d" % number
                path = ("/length", "/chunked")[turn % 2]

                answer = await client.post(url + path, content=body if turn % 3 else pieces(body))
                assert (answer.status_code, answer.content == body) == (200, True)
            assert (await client.get(url + "/length")).content == b""
            assert (await client.head(url + "/length")).status_code == 200

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(one, number)
    errors = [line for line in (await balancer.metrics()).splitlines() if line.startswith("balancer_errors_total{")]
    assert errors
    assert all(line.endswith(" 0.0") for line in errors), errors


@pytest.mark.needs("node", why="Node's http server as a backend")
async def test_node(folder: Path) -> None:
    async with running(LISTEN + own("web", str(find("node")), str(folder / "app.js"))) as balancer:
        await talk(balancer)


async def test_uvicorn(folder: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "uvicorn",
        "--app-dir",
        str(folder),
        "--host",
        "{host}",
        "--port",
        "{port}",
        "asgi:app",
    )
    async with running(LISTEN + own("web", *command)) as balancer:
        await talk(balancer)


@pytest.mark.parametrize("kind", ["sync", "gthread"])
async def test_gunicorn(folder: Path, kind: str) -> None:
    command = (
        *(sys.executable, "-m", "gunicorn", "--chdir", str(folder), "--bind", "{host}:{port}", "--worker-class", kind),
        *("--threads", "2", "wsgi:app"),
    )
    async with running(LISTEN + own("web", *command)) as balancer:
        await talk(balancer)


async def test_http_server(folder: Path) -> None:
    (folder / "large").write_bytes(PIECE * 5)
    command = (sys.executable, "-m", "http.server", "{port}", "--bind", "{host}", "--directory", str(folder))
    async with running(LISTEN + own("web", *command)) as balancer:
        for _ in range(4):
            assert (await balancer.get("/large")).content == PIECE * 5
        assert (await balancer.get("/nothing")).status_code == 404
        assert (await balancer.client.head(balancer.url + "/large")).headers["content-length"] == str(len(PIECE) * 5)
        modified = (await balancer.get("/large")).headers["last-modified"]
        answer = await balancer.get("/large", headers={"If-Modified-Since": modified})
        assert (answer.status_code, answer.content) == (304, b"")


async def curl(*arguments: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run it."""
    with trio.fail_after(20):
        return await trio.run_process(["curl", "-sS", *arguments], stdin=given, capture_stdout=True, check=True)


@pytest.mark.needs("curl")
async def test_curl() -> None:
    async with running(LISTEN + pool("web", 2)) as balancer:
        url = balancer.url
        body = PIECE * 20
        sent = await curl("-T", "-", "-H", "Expect: 100-continue", url + "/echo", given=body)
        assert hashlib.sha256(sent.stdout).digest() == hashlib.sha256(body).digest()
        sent = await curl("--data-binary", "@-", url + "/echo", given=body)
        assert hashlib.sha256(sent.stdout).digest() == hashlib.sha256(body).digest()
        old = await curl("--http1.0", "-i", url + "/chunks?n=3")
        head, _, content = old.stdout.partition(b"\r\n\r\n")
        assert content == b"line 0\nline 1\nline 2\n"
        assert b"transfer-encoding" not in head.lower()
        ranged = json.loads((await curl("-r", "5-9", url + "/")).stdout)
        assert ["Range", "bytes=5-9"] in ranged["headers"]
        several = await curl(*[url + f"/bytes?n={number}" for number in range(1, 6)], "-w", "%{num_connects} ")
        assert several.stdout.count(b"1 ") == 1  # one connection for all five
        torn = await trio.run_process(
            ["curl", "-sS", url + "/chunks?cut=1"], capture_stdout=True, capture_stderr=True, check=False
        )
        assert torn.returncode in (18, 56), torn


@pytest.mark.needs("curl")
async def test_curl_reads_the_answer_that_comes_before_its_body_is_through() -> None:
    limit = '[proxy]\nmax_body_size = "1MiB"\n'
    async with running(LISTEN + limit + pool("web", 1)) as balancer:
        for more in ((), ("-H", "Expect:"), ("-H", "Expect:", "-H", "Transfer-Encoding: chunked")):
            report = ("-o", "/dev/null", "-w", "%{http_code}", *more)
            answer = await curl("--data-binary", "@-", *report, balancer.url + "/", given=PIECE * 20)
            assert answer.stdout == b"413"
        assert (await balancer.get("/")).status_code == 200


async def test_websockets(folder: Path) -> None:
    def chat(url: str) -> None:
        with connect(url, open_timeout=20) as socket:
            for message in ("hello", b"bytes", "x" * 500_000):
                socket.send(message)
                assert socket.recv(timeout=20) == message

    async with running(LISTEN + own("web", sys.executable, str(folder / "ws.py"))) as balancer:
        url = balancer.url.replace("http", "ws") + "/"
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(trio.to_thread.run_sync, chat, url)
        # Counted at a tunnel's end, which the client may know first.
        with trio.fail_after(balancer.patience):
            while 'code="101"' not in await balancer.metrics():  # noqa: ASYNC110
                await trio.sleep(0.02)  # another process's numbers: there is no event to wait for
