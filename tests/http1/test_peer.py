"""Our own client and server ends, talking to each other over any cutting of the bytes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.http1.peer import ClientPeer, PeerError, ServerPeer


@given(st.integers(1, 50), st.binary(max_size=60), st.binary(max_size=60))
def test_whole_exchange(step: int, body: bytes, answer: bytes) -> None:
    server, client = ServerPeer(), ClientPeer()
    sent = client.request("POST", "/api?x=1", [("Host", "a"), ("X-A", "b")], body)
    request = None
    for at in range(0, len(sent), step):
        assert request is None
        server.feed(sent[at : at + step])
        request = server.next_request()
    assert request is not None
    assert (request.method, request.target, request.body, request.field("x-a")) == ("POST", "/api?x=1", body, "b")
    reply = server.respond(200, [("Content-Type", "text/plain")], answer)
    response = None
    for at in range(0, len(reply), step):
        client.feed(reply[at : at + step])
        response = client.whole_response()
    assert response is not None
    assert (response.status, response.body, response.field("content-type")) == (200, answer, "text/plain")
    assert not server.ended


def test_two_requests_on_one_connection() -> None:
    server = ServerPeer()
    server.feed(b"GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
    for target in ("/1", "/2"):
        request = server.next_request()
        assert request is not None
        assert request.target == target
        server.respond(204 if target == "/1" else 200, [])
    assert server.next_request() is None
    assert server.ended


def test_a_stream_of_events() -> None:
    server, client = ServerPeer(), ClientPeer()
    server.feed(client.request("GET", "/events", [("Host", "a")]))
    assert server.next_request()
    client.feed(server.begin(200, [("Content-Type", "text/event-stream")]))
    assert client.response_head()
    assert client.pieces() == b""
    for piece in (b"data: 1\n\n", b"data: 2\n\n"):
        client.feed(server.more(piece))
        assert client.pieces() == piece
    assert not client.done
    client.feed(server.finish())
    assert client.pieces() == b""
    assert client.done


def test_head_has_no_body() -> None:
    server, client = ServerPeer(), ClientPeer()
    server.feed(client.request("HEAD", "/", [("Host", "a")]))
    assert server.next_request()
    client.feed(server.respond(200, [], b"hello"))
    response = client.whole_response()
    assert response is not None
    assert (response.body, response.field("content-length")) == (b"", "5")


def test_continue() -> None:
    server = ServerPeer()
    server.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n")
    assert server.next_request() is None
    assert server.wants_continue
    assert server.continue_line().startswith(b"HTTP/1.1 100 ")
    server.feed(b"x")
    request = server.next_request()
    assert request is not None
    assert request.body == b"x"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"\x16\x03\x01", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 20000, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n" + b"x" * 99, 413),
    ],
)
def test_server_refuses(data: bytes, status: int) -> None:
    server = ServerPeer(max_body=50)
    with pytest.raises(PeerError) as caught:  # noqa: PT012
        server.feed(data)
        server.next_request()
    assert caught.value.status == status
    assert server.respond(status, [("Connection", "close")], b"no").startswith(b"HTTP/1.1 %d " % status)
    assert server.ended


@pytest.mark.parametrize(
    "data", [b"", b"SSH-2.0-x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n" + b"x" * 99]
)
def test_client_refuses(data: bytes) -> None:
    client = ClientPeer(max_body=50)
    client.request("GET", "/", [("Host", "a")])
    with pytest.raises(PeerError):  # noqa: PT012
        client.feed(data)
        client.whole_response()


def test_client_reads_until_close() -> None:
    client = ClientPeer()
    client.request("GET", "/", [("Host", "a")])
    client.feed(b"HTTP/1.0 200 OK\r\n\r\nhello")
    assert client.whole_response() is None
    client.feed(b"")
    response = client.whole_response()
    assert response is not None
    assert response.body == b"hello"
