"""What a backend and a client get to see of each other's header fields."""

import pytest

from balancer.http1.headers import (
    downstream_fields,
    extended_block,
    forwarded_block,
    forwarded_for,
    request_id,
    upstream_fields,
)
from balancer.http1.heads import RequestHead, parse_request
from balancer.http1.responses import ResponseHead, parse_response

ID = b"x-request-id"


def request(*lines: str, line: str = "GET / HTTP/1.1") -> RequestHead:
    head = parse_request("\r\n".join([line, "Host: a.example", *lines, "", ""]).encode("latin-1"), 32768, 100)
    assert head is not None
    return head


def response(*lines: str, status: str = "200 OK") -> ResponseHead:
    head = parse_response("\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1"), b"GET", 32768, 100)
    assert head is not None
    return head


def test_nothing_to_remove_is_the_same_object() -> None:
    head = request("Accept: */*")
    assert upstream_fields(head, False, True, ID) is head.fields
    assert upstream_fields(head, False, True, b"x-trace") is head.fields
    answer = response("Content-Length: 0", "Server: x")
    assert downstream_fields(answer) is answer.fields


SPOOFED = [
    "X-Forwarded-For: 10.0.0.1",
    "x-forwarded-for: 10.0.0.2",
    "X-Forwarded-Proto: https",
    "X-Forwarded-Host: other",
    "X-Forwarded-User: root",
    "X-Real-IP: 10.0.0.1",
    "Forwarded: for=10.0.0.1",
    "Via: 1.0 other",
    "X-Request-ID: mine",
    "X_Forwarded_For: 10.0.0.9",
    "traceparent: 00-1",
]


def test_an_untrusted_client_is_not_believed() -> None:
    assert upstream_fields(request(*SPOOFED), False, True, ID) == b"Host: a.example\r\ntraceparent: 00-1\r\n"


def test_a_trusted_one_is_extended() -> None:
    head = request(*SPOOFED)
    kept = upstream_fields(head, True, True, ID)
    assert kept == (
        b"Host: a.example\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: other\r\nX-Forwarded-User: root\r\n"
        b"X-Real-IP: 10.0.0.1\r\nX-Request-ID: mine\r\ntraceparent: 00-1\r\n"
    )
    assert forwarded_for(head) == b"10.0.0.1, 10.0.0.2"
    assert extended_block(head, "192.0.2.1", b"http", b"a.example") == (
        b"X-Forwarded-For: 10.0.0.1, 10.0.0.2, 192.0.2.1\r\n"
        b"Forwarded: for=10.0.0.1, for=192.0.2.1;host=a.example;proto=http\r\nVia: 1.0 other, 1.1 balancer\r\n"
    )


def test_a_trusted_one_that_says_nothing() -> None:
    head = request()
    assert forwarded_for(head) is None
    assert extended_block(head, "192.0.2.1", b"http", b"a.example") == forwarded_block(
        "192.0.2.1", b"http", b"a.example"
    )


@pytest.mark.parametrize(
    ("client_ip", "host", "block"),
    [
        (
            "192.0.2.1",
            b"a.example",
            b"X-Forwarded-For: 192.0.2.1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: a.example\r\n"
            b"Forwarded: for=192.0.2.1;host=a.example;proto=http\r\nVia: 1.1 balancer\r\n",
        ),
        (
            "2001:db8::1",
            b"[::1]:8080",
            b"X-Forwarded-For: 2001:db8::1\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: [::1]:8080\r\n"
            b'Forwarded: for="[2001:db8::1]";host="[::1]:8080";proto=http\r\nVia: 1.1 balancer\r\n',
        ),
        ("", b"", b"X-Forwarded-Proto: http\r\nForwarded: for=unknown;proto=http\r\nVia: 1.1 balancer\r\n"),
    ],
)
def test_forwarded_block(client_ip: str, host: bytes, block: bytes) -> None:
    assert forwarded_block(client_ip, b"http", host) == block


def test_host_may_be_left_out() -> None:
    assert upstream_fields(request("X-A: b"), False, False, ID) == b"X-A: b\r\n"
    assert upstream_fields(request("Connection: close", "X-A: b"), False, False, ID) == b"X-A: b\r\n"
    assert upstream_fields(request("TE: gzip", "X-A: b"), False, False, ID) == b"X-A: b\r\n"


def test_expect_may_be_left_out() -> None:
    head = request("Expect: 100-continue", "Content-Length: 5", line="POST / HTTP/1.1")
    assert b"Expect" in upstream_fields(head, False, True, ID)
    assert upstream_fields(head, False, True, ID, keep_expect=False) == b"Host: a.example\r\nContent-Length: 5\r\n"


def test_te_is_made_anew() -> None:
    head = request("TE: trailers, gzip", "Connection: TE, close")
    assert upstream_fields(head, False, True, ID) == b"Host: a.example\r\nTE: trailers\r\nConnection: TE\r\n"


@pytest.mark.parametrize("name", ["X-Request-ID", "X-Trace"])
@pytest.mark.parametrize(
    ("values", "fit"),
    [
        (["abc-1"], b"abc-1"),
        ([], b""),
        (["a b"], b""),
        (["caf\xe9"], b""),
        (["x" * 129], b""),
        (["a", "a"], b""),
        ([""], b""),
    ],
)
def test_request_id(name: str, values: list[str], fit: bytes) -> None:
    head = request(*(f"{name}: {value}" for value in values))
    id_header = name.lower().encode()
    assert request_id(head, id_header) == fit
    assert (name.encode() in upstream_fields(head, True, True, id_header)) == bool(fit)
    assert name.encode() not in upstream_fields(head, False, True, id_header)


def test_connection_takes_what_it_names_but_not_what_is_ours() -> None:
    head = request("Connection: X-A, X-Request-ID, X-Forwarded-For, Host", "X-A: 1", "X-Request-ID: i", "X-AB: 2")
    assert upstream_fields(head, True, True, ID) == b"Host: a.example\r\nX-Request-ID: i\r\nX-AB: 2\r\n"


def test_downstream() -> None:
    answer = response(
        "Connection: keep-alive, X-Hop",
        "Keep-Alive: timeout=5",
        "X-Hop: 1",
        "Transfer-Encoding: chunked",
        "Trailer: X-Sum",
        "Set-Cookie: a",
        "set-cookie: b",
        "Proxy-Authenticate: Basic",
    )
    assert downstream_fields(answer) == b"Trailer: X-Sum\r\nSet-Cookie: a\r\nset-cookie: b\r\n"


def test_server_header() -> None:
    answer = response("server: x", "Content-Length: 0")
    assert downstream_fields(answer, b"") == b"Content-Length: 0\r\n"
    assert downstream_fields(answer, b"me") == b"Content-Length: 0\r\nServer: me\r\n"
    assert downstream_fields(response("Content-Length: 0"), b"me") == b"Content-Length: 0\r\nServer: me\r\n"


def test_no_length_where_none_may_be() -> None:
    assert downstream_fields(response("Content-Length: 0", "X-A: b", status="204 No Content")) == b"X-A: b\r\n"
    assert b"Content-Length" in downstream_fields(response("Content-Length: 9", status="304 Not Modified"))


def test_upgrade_required_keeps_its_upgrade() -> None:
    answer = response("Upgrade: h3", "Connection: upgrade", "Content-Length: 0", status="426 Upgrade Required")
    assert downstream_fields(answer) == b"Content-Length: 0\r\nUpgrade: h3\r\nConnection: upgrade\r\n"


def test_a_line_that_must_go_for_two_reasons_goes_once() -> None:
    head = request("X-A: 1", "Expect: 100-continue", "Connection: Expect, Via", "X-B: 2", "Via: 1.0 x")
    for keep_expect in (False, True):
        assert upstream_fields(head, False, True, ID, keep_expect) == b"Host: a.example\r\nX-A: 1\r\nX-B: 2\r\n"
