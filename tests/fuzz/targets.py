"""What must hold for any bytes at all, by target. Raises AssertionError, or whatever a reader should not have raised."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from balancer.errors import Fault, Reason, Side
from balancer.http1.chunked import AT_ONCE, ChunkedReader, FramingError
from balancer.http1.heads import RequestHead, parse_request
from balancer.http1.responses import ResponseHead, parse_response
from balancer.net.proxy_protocol import Announced, parse_header
from tests.http1 import test_heads, test_responses
from tests.net import test_proxy_protocol

Result = TypeVar("Result")

CORPUS = Path(__file__).parents[1] / "corpus"


def requests(data: bytes) -> None:
    """h11 reads alike what is let through, an early verdict stands, and so does each of the two steps' word."""
    test_heads.test_accepts_only_what_h11_reads_alike.hypothesis.inner_test(data)  # type: ignore[attr-defined]
    test_heads.test_the_common_step_and_the_careful_one_agree.hypothesis.inner_test(data)  # type: ignore[attr-defined]
    cut = data[0] % (len(data) + 1) if data else 0
    test_heads.test_an_early_verdict_stands.hypothesis.inner_test(data, cut)  # type: ignore[attr-defined]
    head = _outcome(lambda: parse_request(data, 2048, 30))
    if isinstance(head, RequestHead):
        assert head.size <= min(len(data), 2048)
        for name, _, start, end in head.special:
            assert name == b"connection" or head.fields[start:end].lower().startswith(name)
            assert head.fields[end - 2 : end] == b"\r\n"
    else:
        assert head is None or head.side is Side.CLIENT


def responses(data: bytes) -> None:
    """The same for responses, to three methods."""
    for method in (b"GET", b"HEAD"):
        test_responses.test_accepts_only_what_h11_reads_alike.hypothesis.inner_test(data, method)  # type: ignore[attr-defined]
        head = _outcome(lambda method=method: parse_response(data, method, 2048, 30))  # type: ignore[misc]
        if isinstance(head, ResponseHead):
            assert head.size <= min(len(data), 2048)
        else:
            assert head is None or head.side is Side.BACKEND
    test_responses.test_the_common_step_and_the_careful_one_agree.hypothesis.inner_test(data)  # type: ignore[attr-defined]


def chunks(data: bytes) -> None:
    """The same payload, end and verdict however the bytes are cut; the first byte says how."""
    step = data[0] % 16 + 1 if data else 1
    whole, small = _chunked(data[1:], len(data) + 1), _chunked(data[1:], step)
    assert whole == small


def _chunked(data: bytes, step: int) -> object:
    reader = ChunkedReader()
    payload = b""
    at = 0
    try:
        while at < len(data) and not reader.done:
            piece = data[at : at + step]
            at += step
            while piece and not reader.done:
                payload += b"".join(reader.feed(piece))
                piece = reader.rest
    except FramingError:
        return "refused"
    return payload, reader.done, reader.trailers, reader.rest + data[at:] if reader.done else b""


def proxy_header(data: bytes) -> None:
    """One meaning however it is cut, and the client's fault whatever is wrong."""
    ends = (*range(min(len(data), 64)), len(data))
    outcomes = [_outcome(lambda end=end: parse_header(data[:end])) for end in ends]  # type: ignore[misc]
    verdicts = [outcome.reason if isinstance(outcome, Fault) else outcome for outcome in outcomes]
    first = next((verdict for verdict in verdicts if verdict is not None), None)
    assert first == verdicts[-1]
    if isinstance(first, Announced):
        assert first.size <= len(data)
    else:
        assert first in (None, Reason.BAD_PROXY_HEADER)


def _outcome(read: Callable[[], Result]) -> Result | Fault:
    try:
        return read()
    except Fault as fault:
        return fault


def _raw(folder: str) -> Iterator[bytes]:
    for path in sorted((CORPUS / folder).glob("*.raw")):
        yield path.read_bytes()


def _bodies() -> Iterator[bytes]:
    yield b"\x07" + b"1\r\na\r\n" * (AT_ONCE + 10) + b"0\r\n\r\n"
    for raw in (*_raw("requests"), *_raw("responses")):
        if b"chunked" in raw:
            yield b"\x07" + raw.partition(b"\r\n\r\n")[2]


# Name → (what must hold, bytes to begin with, words that such bytes are made of).
TARGETS: dict[str, tuple[Callable[[bytes], None], Callable[[], Iterator[bytes]], tuple[bytes, ...]]] = {
    "requests": (
        requests,
        lambda: _raw("requests"),
        (
            b"\r\n",
            b"Host: a",
            b"Content-Length: ",
            b"Transfer-Encoding: chunked",
            b"Connection: ",
            b"HTTP/1.1",
            b"http://",
        ),
    ),
    "responses": (
        responses,
        lambda: _raw("responses"),
        (
            b"\r\n",
            b"HTTP/1.1 200 OK",
            b"Content-Length: ",
            b"Transfer-Encoding: chunked",
            b"Connection: ",
            b"Keep-Alive: ",
        ),
    ),
    "chunks": (chunks, _bodies, (b"\r\n", b"0\r\n", b";a=b", b"ffffffff")),
    "proxy-header": (
        proxy_header,
        lambda: iter(
            [header for header, _ in test_proxy_protocol.GOOD.values()] + list(test_proxy_protocol.BAD.values())
        ),
        (b"PROXY ", b"TCP4 ", b"TCP6 ", b"UNKNOWN", b"\r\n\r\n\0\r\nQUIT\n"),
    ),
}
