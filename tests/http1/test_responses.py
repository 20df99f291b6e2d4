"""Response heads: what h11 reads alike, where the body ends, and whether the connection may be used again."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1 import responses
from balancer.http1.framing import CHUNKED, UNTIL_CLOSE
from balancer.http1.headers import downstream_fields
from balancer.http1.responses import ResponseHead, parse_response
from tests.http1.wire import response_heads


def parsed(data: bytes, method: bytes = b"GET") -> ResponseHead | Fault | None:
    try:
        return parse_response(data, method, 32768, 100)
    except Fault as fault:
        return fault


def response(*lines: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    return "".join(line + "\r\n" for line in (status, *lines, "")).encode("latin-1")


@given(response_heads, st.sampled_from([b"GET", b"HEAD"]))
@settings(max_examples=600, deadline=None)
def test_accepts_only_what_h11_reads_alike(data: bytes, method: bytes) -> None:
    head = parsed(data, method)
    if isinstance(head, Fault):
        assert (head.side, head.reason, head.moment) == (Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND)
    if not isinstance(head, ResponseHead):
        return
    connection = h11.Connection(h11.CLIENT)
    upgrade = [("Connection", "upgrade"), ("Upgrade", "x")] if head.status == 101 else []
    connection.send(h11.Request(method=method, target="/", headers=[("Host", "a"), *upgrade]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data[: head.size])
    event = connection.next_event()
    assert isinstance(event, h11.Response | h11.InformationalResponse)
    assert (event.status_code, event.reason) == (
        head.status,
        head.reason.strip(b" \t") if event.reason == b"OK" else head.reason,
    )
    names = [name for name, _ in event.headers]
    if head.length > 0:
        assert (b"content-length", b"%d" % head.length) in event.headers
    assert (head.length == CHUNKED) == (
        b"transfer-encoding" in names and method != b"HEAD" and head.status >= 200 and head.status not in (204, 304)
    )


@given(response_heads)
@settings(max_examples=400, deadline=None)
def test_the_common_step_and_the_careful_one_agree(data: bytes) -> None:
    if responses._COMMON(data) is None:
        return
    head = parsed(data)
    try:
        careful: ResponseHead | Fault | None = responses._careful(data, b"GET", 32768, 100)
    except Fault as fault:
        careful = fault
    if not isinstance(head, ResponseHead) or not isinstance(careful, ResponseHead):
        assert str(head) == str(careful)
        return
    for name in ResponseHead.__slots__:
        assert name == "special" or getattr(head, name) == getattr(careful, name)
    assert downstream_fields(head) == downstream_fields(careful)


@pytest.mark.parametrize(
    ("lines", "status", "method", "length", "keep_alive"),
    [
        (["Content-Length: 5"], "HTTP/1.1 200 OK", b"GET", 5, True),
        (["Content-Length: 5"], "HTTP/1.1 200 OK", b"HEAD", 0, True),
        (["Content-Length: 5"], "HTTP/1.1 304 Not Modified", b"GET", 0, True),
        (["Content-Length: 0"], "HTTP/1.1 204 No Content", b"GET", 0, True),
        (["Connection: close", "Content-Length: 5"], "HTTP/1.1 200 OK", b"GET", 5, False),
        (["Transfer-Encoding: chunked"], "HTTP/1.1 200 OK", b"GET", CHUNKED, True),
        (["Transfer-Encoding: chunked"], "HTTP/1.1 200 OK", b"HEAD", 0, True),
        ([], "HTTP/1.1 200 OK", b"GET", UNTIL_CLOSE, False),
        ([], "HTTP/1.1 200", b"GET", UNTIL_CLOSE, False),
        ([], "HTTP/1.1 100 Continue", b"POST", 0, True),
        (["Content-Length: 5"], "HTTP/1.0 200 OK", b"GET", 5, False),
        (["Content-Length: 5", "Connection: keep-alive"], "HTTP/1.0 200 OK", b"GET", 5, True),
        (["Connection: keep-alive"], "HTTP/1.0 200 OK", b"GET", UNTIL_CLOSE, False),
    ],
)
def test_framing(lines: list[str], status: str, method: bytes, length: int, keep_alive: bool) -> None:
    data = response(*lines, status=status)
    head = parsed(data + b"rest", method)
    assert isinstance(head, ResponseHead)
    assert (head.length, head.keep_alive, head.size) == (length, keep_alive, len(data))
    assert all(parsed(data[:cut], method) is None for cut in range(len(data)))


@pytest.mark.parametrize(
    "data",
    [
        response("Content-Length: 5", "Content-Length: 6"),
        response("Content-Length: 5", "Content-Length: 5"),
        response("Content-Length: 5", "Connection: close", "Content-Length: 5"),
        response("Content-Length: 5", "Transfer-Encoding: chunked"),
        response("Transfer-Encoding: chunked", "Content-Length: 5"),
        response("Content-Length: +5"),
        response("Content-Length: 5, 5"),
        response("Transfer-Encoding: gzip, chunked"),
        response("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
        response("Transfer-Encoding: chunked", status="HTTP/1.0 200 OK"),
        response("X-A: b\r\n c"),
        response("X-A: b\nX-B: c"),
        response("X-A: b\x00"),
        response("X-A : b"),
        response(status="HTTP/1.1 099 Low"),
        response(status="HTTP/1.1 20 OK"),
        response(status="HTTP/2.0 200 OK"),
        response(status="HTTP/1.1 200 OK\x01"),
        b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
        b"<html>",
        b"SSH-2.0",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 33000,
        response("X: " + "x" * 33000),
        response(*["X: y"] * 101),
    ],
)
def test_nonsense(data: bytes) -> None:
    fault = parsed(data)
    assert isinstance(fault, Fault)
    assert fault.reason is Reason.BAD_RESPONSE


def test_switching_protocols() -> None:
    head = parsed(
        response("Upgrade: websocket", "Connection: Upgrade", "X-A: b", status="HTTP/1.1 101 Switching Protocols")
    )
    assert isinstance(head, ResponseHead)
    assert (head.length, head.upgrade) == (0, b"websocket")
    assert downstream_fields(head) == b"X-A: b\r\n"
