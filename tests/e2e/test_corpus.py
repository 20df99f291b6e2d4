"""Every raw request of tests/corpus on a real connection: what the client gets, and what a backend has seen of it.

Each case has a proxy and a recording backend of its own, so that every byte the backend got belongs to the case. The parser's
own test takes the same files byte by byte; here they come whole, and in two pieces.
"""

import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import trio

from balancer.proxy import process
from tests.proxy.ends import End, Message, Origin
from tests.proxy.harness import front

CORPUS = Path(__file__).parents[1] / "corpus" / "requests"
CASES = sorted(path.stem for path in CORPUS.glob("*.raw"))
TIMEOUTS = {"header_timeout": 0.15, "idle_timeout": 1.0, "body_timeout": 0.15}


@pytest.fixture(autouse=True)
def _ordinary_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy freezes what its process has allocated; this process goes on to other tests."""
    monkeypatch.setattr(process, "_settle_memory", lambda: None)


class _Recording(End):
    """An end whose every byte is kept by its origin."""

    def __init__(self, stream: trio.SocketStream, recorder: "Recorder") -> None:
        super().__init__(stream)
        self._recorder = recorder

    async def more(self) -> bytes:
        data = await super().more()
        self._recorder.raw += data
        return data


class Recorder(Origin):
    """Keeps every byte that comes, and answers each request that is whole. unread: bytes that were part of none."""

    def __init__(self) -> None:
        super().__init__(self._record)
        self.raw = b""
        self.unread = b""

    async def _record(self, _: Origin, plain: End) -> None:
        end = _Recording(plain.stream, self)
        try:
            while end.buffer or await end.more():
                request = await end.request()
                self.got(request)
                if request.has("upgrade"):
                    upgrade = request.one("upgrade").encode()
                    await end.send(b"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: %s\r\n\r\n" % upgrade)
                    await end.stream.send_eof()
                    while await end.more():
                        pass
                    return
                await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        finally:
            self.unread += end.buffer


def load(name: str) -> tuple[bytes, dict[str, Any]]:
    return (CORPUS / f"{name}.raw").read_bytes(), tomllib.loads((CORPUS / f"{name}.toml").read_text())


@pytest.mark.parametrize("pieces", [1, 2])
@pytest.mark.parametrize("name", CASES)
async def test_request(name: str, pieces: int) -> None:
    raw, expected = load(name)
    origin = Recorder()
    async with front(origin, proxy=TIMEOUTS) as proxy, proxy.client() as client:
        cut = len(raw) // 2 if pieces == 2 else len(raw)
        await client.send(raw[:cut])
        if cut < len(raw):
            await proxy.quiet()
            with suppress(trio.BrokenResourceError):  # the first half was enough for a refusal
                await client.send(raw[cut:])
        if expected["status"] == "pass":
            await _check_answers(client, raw, expected)
        else:
            await _check_refusal(client, expected)
    if expected["status"] == "pass":
        _check_seen(origin, expected)
        return
    assert not origin.requests, "a refused request reached the backend"
    if pieces == 1 and expected["reason"] != "request_body_timeout":
        assert origin.raw == b"", "bytes of a refused request reached the backend"


async def _check_answers(client: End, raw: bytes, expected: dict[str, Any]) -> None:
    method = raw.lstrip().split(b" ")[0].decode()
    answer = await client.response(method)
    if expected.get("upgrade"):
        assert (answer.status, answer.one("upgrade")) == (101, expected["upgrade"])
        await client.stream.send_eof()
        assert await client.closed()
        return
    assert answer.status == 200
    if "keep_alive" in expected:
        assert ("close" not in answer.all("connection")) is expected["keep_alive"]
    then = expected.get("then", 200)
    if expected.get("rest") and then:
        assert (await client.response()).status == then
    if then != 200:
        assert await client.closed()


async def _check_refusal(client: End, expected: dict[str, Any]) -> None:
    answer = await client.response()
    assert answer.status == expected["status"]
    assert answer.one("proxy-status").endswith(f'; details="{expected["reason"]}"')
    assert answer.one("connection") == "close"
    assert await client.closed()


def _check_seen(origin: Recorder, expected: dict[str, Any]) -> None:
    """The backend has seen this request, the one that follows it if there is one, and not a byte more."""
    is_followed = bool(expected.get("rest")) and expected.get("then", 200) == 200
    assert len(origin.requests) == 1 + is_followed
    assert origin.unread.decode("latin-1") == (expected.get("rest", "") if expected.get("upgrade") else "")
    seen: Message = origin.requests[0]
    if "target" in expected:
        assert seen.target == expected["target"]
    if expected.get("host"):
        assert seen.one("host") == expected["host"]
    assert seen.body.decode("latin-1") == expected.get("body", "")
    trailers = "".join(f"{name}: {value}\r\n" for name, value in seen.trailers)
    assert trailers.replace(" ", "") == expected.get("trailers", "").replace(" ", "")
    lines = [f"{name}: {value}" for name, value in seen.fields]
    wanted = [
        f"{name}: {value.strip()}" for name, _, value in (line.partition(":") for line in expected.get("upstream", []))
    ]
    assert [line for line in lines if line in wanted] == wanted
    assert not {name.lower() for name, _ in seen.fields} & {name.lower() for name in expected.get("absent", [])} - _OURS


# A client's own lines of these names are absent, and ours are there.
_OURS = {"x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "forwarded", "via", "x-request-id", "host", "te"}
_OURS |= {"connection", "upgrade", "transfer-encoding"}
