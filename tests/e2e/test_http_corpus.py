"""The corpus of raw requests, through a real balancer: what the client gets, and what a backend is never shown."""

import tomllib
from pathlib import Path
from typing import Any

import trio

from tests.proxy.ends import End, Message, Origin, Torn
from tests.support.running import Balancer, running

CORPUS = Path(__file__).parents[1] / "corpus" / "requests"

CONFIG = """
[listen.web]
address = "127.0.0.1:0"

[proxy]
processes = 1
header_timeout = "500ms"
body_timeout = "500ms"

[[pool.web.group]]
address = "127.0.0.1:{port}"
"""


# What the client may not say is said by the balancer itself.
OURS = {
    *("connection", "te", "transfer-encoding", "upgrade", "x-request-id"),
    *("forwarded", "via", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host"),
}


def cases() -> list[tuple[str, bytes, dict[str, Any]]]:
    """(name, what is sent, what must become of it)."""
    return [
        (path.stem, path.read_bytes(), tomllib.loads(path.with_suffix(".toml").read_text()))
        for path in sorted(CORPUS.glob("*.raw"))
    ]


async def ask(balancer: Balancer, raw: bytes) -> Message | None:
    """The answer to the first request of what is sent on one connection; None when there is none."""
    async with await trio.open_tcp_stream("127.0.0.1", balancer.port) as stream:
        end = End(stream)
        try:
            await end.send(raw)
        except trio.BrokenResourceError:
            pass  # refused before all of it was sent: the answer is there
        try:
            return await end.response(raw.lstrip().partition(b" ")[0].decode("latin-1"))
        except Torn:
            return None


def complaints(seen: Message, expected: dict[str, Any]) -> list[str]:
    """In what the backend's view differs from what it must be."""
    lines = seen.fields
    names = {name.lower() for name, _ in seen.fields}
    trailers = "".join(f"{name}: {value}\r\n" for name, value in seen.trailers)
    wrong = []
    if seen.target != expected.get("target", seen.target):
        wrong.append(f"target {seen.target!r}")
    if "host" in expected and expected["host"] and seen.all("host") != [expected["host"]]:
        wrong.append(f"host {seen.all('host')}")
    if seen.body.decode("latin-1") != expected.get("body", ""):
        wrong.append(f"body {seen.body[:100]!r}")
    if trailers != expected.get("trailers", ""):
        wrong.append(f"trailers {trailers!r}")
    wanted = [
        (name, value.strip()) for name, _, value in (line.partition(":") for line in expected.get("upstream", []))
    ]
    if [line for line in lines if line in wanted] != wanted:
        wrong.append(f"lines {lines}")
    if found := names & {name.lower() for name in expected.get("absent", [])} - OURS:
        wrong.append(f"has {found}")
    return wrong


async def test_corpus() -> None:
    origin = Origin()
    wrong: list[str] = []

    async def check(name: str, raw: bytes, expected: dict[str, Any]) -> None:
        before = len(origin.requests)
        answer = await ask(balancer, raw)
        if expected["status"] == "pass":
            if answer is None or answer.status != 200:
                wrong.append(f"{name}: {answer.start if answer else None}")
            else:
                # Among them may be what followed in an earlier case.
                found = [complaints(seen, expected) for seen in origin.requests[before:]]
                if [] not in found:
                    wrong.append(f"{name}: {found}")
        elif answer is None or answer.status != expected["status"]:
            wrong.append(f"{name}: {answer.start if answer else None} instead of {expected['status']}")
        elif f'details="{expected["reason"]}"' not in answer.one("proxy-status"):
            wrong.append(f"{name}: {answer.one('proxy-status')}")

    async with trio.open_nursery() as nursery:
        await nursery.start(origin.run)
        async with running(CONFIG.format(port=origin.port)) as balancer:
            async with trio.open_nursery() as together:
                for case in cases():
                    if case[2]["status"] != "pass":
                        together.start_soon(check, *case)
            assert not origin.requests, "what is refused is never shown to a backend as a request"
            for case in cases():
                if case[2]["status"] == "pass":
                    await check(*case)
            assert not wrong, "\n".join(wrong)
            assert (await balancer.get("/")).status_code == 200
        nursery.cancel_scope.cancel()
