"""Whatever the recogniser lets through, h11 reads the same; and both of its steps say the same."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.errors import Fault, Reason, Side
from balancer.http1 import heads
from balancer.http1.headers import upstream_fields
from balancer.http1.heads import CHUNKED, RequestHead, parse_request
from tests.http1.wire import common_requests, request_heads

BROWSER = (
    b"GET /a/page?id=12345 HTTP/1.1\r\nHost: www.example.com\r\nConnection: keep-alive\r\nCache-Control: max-age=0\r\n"
    b"Upgrade-Insecure-Requests: 1\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: text/html,*/*;q=0.8\r\n"
    b"Accept-Encoding: gzip, deflate, br\r\nAccept-Language: en-US,en;q=0.9\r\nReferer: https://www.example.com/\r\n"
    b"Cookie: session=0123456789abcdef; theme=dark\r\n\r\n"
)


def parsed(data: bytes) -> RequestHead | Fault | None:
    try:
        return parse_request(data, 32768, 100)
    except Fault as fault:
        return fault


def h11_says(data: bytes) -> h11.Request:
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(data.removeprefix(b"\r\n"))
    event = connection.next_event()
    assert isinstance(event, h11.Request)
    return event


def pairs(fields: bytes) -> list[tuple[bytes, bytes]]:
    split = (line.split(b":", 1) for line in fields.split(b"\r\n")[:-1])
    return [(name.lower(), value.strip(b" \t")) for name, value in split]


@given(request_heads)
@settings(max_examples=600, deadline=None)
def test_accepts_only_what_h11_reads_alike(data: bytes) -> None:
    head = parsed(data)
    if isinstance(head, Fault):
        assert head.side is Side.CLIENT
    if not isinstance(head, RequestHead):
        return
    event = h11_says(data[: head.size])
    assert event.method == head.method
    assert event.http_version[:2] == b"1."
    said = [(name, value.lower() if name == b"transfer-encoding" else value) for name, value in pairs(head.fields)]
    if head.target == event.target:
        assert list(event.headers) == said
    else:
        assert event.target.partition(b"://")[2].removesuffix(b"/").startswith(head.host)
    lengths = [int(value) for name, value in event.headers if name == b"content-length"]
    chunked = any(name == b"transfer-encoding" for name, _ in event.headers)
    assert head.length == (CHUNKED if chunked else (lengths or [0])[0])


@given(st.one_of(common_requests, request_heads))
@settings(max_examples=500, deadline=None)
def test_the_common_step_and_the_careful_one_agree(data: bytes) -> None:
    common = heads._COMMON(data)
    if common is None:
        return
    head = parsed(data)
    try:
        careful: RequestHead | Fault = heads._careful(data, 32768, 100)
    except Fault as fault:
        careful = fault
    if isinstance(head, Fault) or isinstance(careful, Fault):
        assert str(head) == str(careful)
        return
    assert head is not None
    for name in RequestHead.__slots__:
        assert name == "special" or getattr(head, name) == getattr(careful, name)
    for keep in (False, True):
        assert upstream_fields(head, keep, True, b"x-request-id") == upstream_fields(
            careful, keep, True, b"x-request-id"
        )


@given(request_heads, st.integers(0, 200))
@settings(max_examples=400, deadline=None)
def test_an_early_verdict_stands(data: bytes, cut: int) -> None:
    early = parsed(data[:cut])
    late = parsed(data)
    if isinstance(early, Fault):
        # Of two things that are wrong, another may be met first; and of an incomplete head only so much is looked at as is cheap.
        assert not isinstance(late, RequestHead)
    elif early is not None and isinstance(late, RequestHead):
        assert (early.size, early.fields) == (late.size, late.fields)


def test_browser_takes_the_common_step() -> None:
    assert heads._COMMON(BROWSER)
    assert heads._COMMON(BROWSER.replace(b"GET", b"POST").replace(b"Cache-Control: max-age=0", b"Content-Length: 3"))
    head = parse_request(BROWSER + b"rest", 32768, 100)
    assert head is not None
    assert (head.method, head.target, head.host, head.minor) == (b"GET", b"/a/page?id=12345", b"www.example.com", 1)
    assert head.size == len(BROWSER)
    assert head.fields == BROWSER[BROWSER.index(b"Host") : -2]


def test_every_cut_of_a_head_is_incomplete() -> None:
    for cut in range(len(BROWSER)):
        assert parse_request(BROWSER[:cut], 32768, 100) is None


@pytest.mark.parametrize(
    ("max_size", "max_fields", "reason"),
    [(20, 100, Reason.TARGET_TOO_LONG), (100, 100, Reason.HEAD_TOO_LARGE), (32768, 9, Reason.TOO_MANY_HEADERS)],
)
def test_limits_hold_in_both_steps(max_size: int, max_fields: int, reason: Reason) -> None:
    for data in (BROWSER, BROWSER.replace(b"1.1", b"1.0")):
        with pytest.raises(Fault) as caught:
            parse_request(data, max_size, max_fields)
        assert caught.value.reason is reason
    assert parse_request(BROWSER, len(BROWSER), 10) is not None
