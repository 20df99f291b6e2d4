"""The rescue table: every reason has an answer, and only what is safe is tried again."""

import json
from typing import Any

import h11
import pytest

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.replies import closes, may_retry, prefers_json, reply, status_of

DEFAULTS: dict[str, Any] = {
    "minor": 1,
    "accept_json": False,
    "request_id": b"id-1",
    "id_header": b"X-Request-ID",
    "retry_after": None,
}


def answer(data: bytes, method: str = "GET") -> tuple[h11.Response, bytes, bool]:
    """What an h11 client makes of it: head, body, and whether the connection may be used again."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method=method, target="/", headers=[("Host", "a")]))
    client.send(h11.EndOfMessage())
    client.receive_data(data)
    head = client.next_event()
    assert isinstance(head, h11.Response)
    body = b""
    while isinstance(event := client.next_event(), h11.Data):
        body += event.data
    assert isinstance(event, h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    return head, body, client.our_state is h11.DONE


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("accept_json", [False, True])
def test_every_reason_is_answered(reason: Reason, method: str, accept_json: bool) -> None:
    fault = Fault(Side.BACKEND, reason, detail="secret")
    options = {**DEFAULTS, "accept_json": accept_json}
    data = reply(fault, **options, close=False, head_only=method == "HEAD")
    head, body, reusable = answer(data, method)
    fields = dict(head.headers)
    assert head.status_code == status_of(fault)
    assert b"secret" not in data
    assert fields[b"x-request-id"] == b"id-1"
    assert fields[b"proxy-status"].startswith(b"balancer; error=")
    assert fields[b"proxy-status"].endswith(b'; details="%s"' % reason.encode())
    assert (b"retry-after" in fields) == (head.status_code in (429, 503))
    assert (b"allow" in fields) == (head.status_code == 405)
    assert reusable is not closes(fault)
    if method == "HEAD":
        assert body == b""
    elif accept_json:
        assert json.loads(body)["reason"] == reason
    else:
        assert reason.encode() in body


def test_details() -> None:
    fault = Fault(Side.BALANCER, Reason.QUEUE_FULL)
    kept = {**DEFAULTS, "retry_after": 7}
    assert b"\r\nRetry-After: 7\r\n" in reply(fault, **kept, close=False, head_only=False)
    assert b"\r\nConnection: close\r\n" in reply(fault, **kept, close=True, head_only=False)
    assert b"\r\nConnection: keep-alive\r\n" in reply(fault, **{**kept, "minor": 0}, close=False, head_only=False)
    assert b"\r\nDate: now\r\n" in reply(fault, **kept, close=False, head_only=False, date=b"now")


@pytest.mark.parametrize(
    ("accept", "json_wanted"),
    [
        (None, False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("application/json, text/plain, */*", False),
        ("application/json, */*;q=0.5", True),
        ("application/json;q=0.5, text/plain;q=0.4", True),
        ("text/*, application/json;q=0.9", False),
        ("application/problem+json", True),
        ("application/json;q=0", False),
        (";;,q=,/", False),
    ],
)
def test_prefers_json(accept: str | None, json_wanted: bool) -> None:
    fields = b"Host: a\r\n" + (f"Accept: {accept}\r\n".encode() if accept is not None else b"")
    assert prefers_json(fields) is json_wanted


@pytest.mark.parametrize(
    ("side", "reason", "moment", "method", "backend_exited", "again"),
    [
        (Side.BACKEND, Reason.CONNECT_REFUSED, Moment.BEFORE_SEND, b"POST", False, True),
        (Side.BACKEND, Reason.CONNECT_TIMEOUT, Moment.BEFORE_SEND, b"POST", False, True),
        (Side.BACKEND, Reason.RESET, Moment.AFTER_SEND, b"GET", False, True),
        (Side.BACKEND, Reason.RESET, Moment.AFTER_SEND, b"PUT", False, True),
        (Side.BACKEND, Reason.RESET, Moment.AFTER_SEND, b"POST", False, False),
        (Side.BACKEND, Reason.RESET, Moment.AFTER_SEND, b"get", False, False),
        (Side.BACKEND, Reason.RESET, Moment.AFTER_SEND, b"POST", True, True),
        (Side.BACKEND, Reason.BAD_RESPONSE, Moment.AFTER_SEND, b"GET", False, True),
        (Side.BACKEND, Reason.RESPONSE_TIMEOUT, Moment.AFTER_SEND, b"GET", True, False),
        (Side.BACKEND, Reason.TRUNCATED, Moment.MID_RESPONSE, b"GET", True, False),
        (Side.CLIENT, Reason.CLIENT_GONE, Moment.BEFORE_SEND, b"GET", False, False),
        (Side.BALANCER, Reason.QUEUE_TIMEOUT, Moment.BEFORE_SEND, b"GET", False, False),
    ],
)
def test_may_retry(
    side: Side, reason: Reason, moment: Moment, method: bytes, backend_exited: bool, again: bool
) -> None:
    assert may_retry(Fault(side, reason, moment), method, backend_exited) is again
