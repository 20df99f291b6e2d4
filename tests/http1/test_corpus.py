"""Every raw request of tests/corpus meets the fate that the file beside it says, whole and byte by byte."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from balancer.errors import Fault, Reason, Side
from balancer.http1.chunked import ChunkedReader, FramingError
from balancer.http1.headers import upstream_fields
from balancer.http1.heads import CHUNKED, RequestHead, parse_request
from balancer.http1.replies import status_of

CORPUS = Path(__file__).parents[1] / "corpus" / "requests"
CASES = sorted(path.stem for path in CORPUS.glob("*.raw"))
MAX_SIZE = 32 * 1024
MAX_FIELDS = 100


class Outcome:
    """What a connection that gets `raw` makes of its first request."""

    def __init__(self, raw: bytes, step: int) -> None:
        self.head: RequestHead | None = None
        self.body = self.trailers = self.rest = b""
        self.side: Side | None = None
        self.reason: Reason | None = None
        try:
            self._read(raw, step)
        except Fault as fault:
            self.side = fault.side
            self.reason = fault.reason
            self.status = status_of(fault)

    def _read(self, raw: bytes, step: int) -> None:
        got = 0
        while self.head is None:
            if got >= len(raw):
                raise Fault(Side.CLIENT, Reason.HEAD_TIMEOUT)
            got += step
            self.head = parse_request(raw[:got], MAX_SIZE, MAX_FIELDS)
        content = raw[self.head.size :]
        if self.head.length == CHUNKED:
            self._read_chunks(content, step)
        else:
            self.body, self.rest = content[: self.head.length], content[self.head.length :]
            if len(self.body) < self.head.length:
                raise Fault(Side.CLIENT, Reason.REQUEST_BODY_TIMEOUT)

    def _read_chunks(self, content: bytes, step: int) -> None:
        reader = ChunkedReader()
        at = 0
        while not reader.done:
            if at >= len(content):
                raise Fault(Side.CLIENT, Reason.REQUEST_BODY_TIMEOUT)
            try:
                self.body += b"".join(reader.feed(content[at : at + step]))
            except FramingError as error:
                raise Fault(Side.CLIENT, Reason.BAD_REQUEST) from error
            at += step
        self.trailers = reader.trailers
        self.rest = reader.rest + content[at:]


def load(name: str) -> tuple[bytes, dict[str, Any]]:
    return (CORPUS / f"{name}.raw").read_bytes(), tomllib.loads((CORPUS / f"{name}.toml").read_text())


def test_corpus_is_there() -> None:
    assert len(CASES) > 150
    assert {path.stem for path in CORPUS.glob("*.toml")} == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_request(name: str) -> None:
    raw, expected = load(name)
    # A long head byte by byte is quadratic in the test, not in what is tested.
    for step in (len(raw), 1) if len(raw) < 2000 else (len(raw), 1021):
        outcome = Outcome(raw, step)
        if expected["status"] != "pass":
            assert (outcome.side, outcome.reason, outcome.status) == (
                Side.CLIENT,
                expected["reason"],
                expected["status"],
            )
            continue
        assert outcome.reason is None
        assert outcome.head is not None
        check(outcome, outcome.head, expected)


def check(outcome: Outcome, head: RequestHead, expected: dict[str, Any]) -> None:
    for key in ("target", "host", "upgrade"):
        assert getattr(head, key).decode("latin-1") == expected.get(key, getattr(head, key).decode("latin-1"))
    for key in ("keep_alive", "expects_continue"):
        assert getattr(head, key) is expected.get(key, getattr(head, key))
    for key in ("body", "trailers"):
        assert getattr(outcome, key).decode("latin-1") == expected.get(key, "")
    assert outcome.rest.decode("latin-1") == expected.get("rest", "")
    lines = upstream_fields(head, False, True, b"x-request-id").decode("latin-1").split("\r\n")
    assert lines.pop() == ""
    wanted = expected.get("upstream", [])
    assert [line for line in lines if line in wanted] == wanted
    names = {line.partition(":")[0].lower() for line in lines}
    assert not names & {name.lower() for name in expected.get("absent", [])}
