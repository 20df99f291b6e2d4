"""Every raw response of tests/corpus: what the client gets of it, and whether the backend's connection is used again."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from tests.proxy.ends import Liar, Message, Torn
from tests.proxy.harness import GET, Front, front

CORPUS = Path(__file__).parents[1] / "corpus" / "responses"
CASES = sorted(path.stem for path in CORPUS.glob("*.raw"))


def load(name: str) -> tuple[bytes, dict[str, Any]]:
    return (CORPUS / f"{name}.raw").read_bytes(), tomllib.loads((CORPUS / f"{name}.toml").read_text())


def test_corpus_is_there() -> None:
    assert len(CASES) > 90
    assert {path.stem for path in CORPUS.glob("*.toml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
async def test_response(name: str) -> None:
    raw, expected = load(name)
    origin = Liar(raw, expected.get("close", False))
    async with front(origin) as proxy:
        await _check_client(proxy, expected)
        assert (await proxy.ask()).body == b"ok"
    assert origin.opened == (1 if expected["reused"] else 2)
    assert len(origin.requests) == 2


async def _check_client(proxy: Front, expected: dict[str, Any]) -> None:
    method = expected.get("method", "GET")
    upgrade = expected.get("upgrade", "").encode()
    fields = b"Connection: upgrade\r\nUpgrade: %s\r\n" % upgrade if upgrade else b""
    async with proxy.client() as client:
        await client.send(b"%s / HTTP/1.1\r\nHost: a\r\n%s\r\n" % (method.encode(), fields))
        if expected["status"] == "cut":
            with pytest.raises(Torn, match="reset"):
                await client.response(method)
            return
        for _ in range(expected.get("interims", 0)):
            assert (await client.head()).status < 200
        _check_answer(await client.response(method), expected)
        # Nothing of what else the backend has said comes behind it.
        await client.send(GET.replace(b"GET", b"BREW\x00"))
        assert (await client.response()).status == 400
        assert await client.closed()


def _check_answer(answer: Message, expected: dict[str, Any]) -> None:
    assert answer.status == expected["status"]
    if "reason" in expected:
        assert answer.one("proxy-status").endswith(f'; details="{expected["reason"]}"')
    else:
        assert not answer.has("proxy-status")
    if "body" in expected:
        assert answer.body.decode("latin-1") == expected["body"]
    assert [f"{name}: {value}" for name, value in answer.trailers] == expected.get("trailers", [])
    lines = [f"{name}: {value}" for name, value in answer.fields]
    assert [line for line in lines if line in expected.get("upstream", [])] == expected.get("upstream", [])
    assert not {name.lower() for name, _ in answer.fields} & {name.lower() for name in expected.get("absent", [])}
