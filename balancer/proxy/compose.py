"""Heads as they leave: the request's for a backend, the response's for the client.

Most of a head is passed on as the block of bytes that it is (`http1/headers`); here is what is put around it.
"""

import re
from functools import lru_cache
from typing import Final, Protocol

from balancer.errors import Fault
from balancer.http1.framing import CHUNKED
from balancer.http1.headers import downstream_fields, extended_block, forwarded_block, request_id, upstream_fields
from balancer.http1.heads import RequestHead
from balancer.http1.replies import prefers_json, reply
from balancer.http1.responses import ResponseHead
from balancer.proxy.backend import Backend
from balancer.proxy.exchange import Exchange
from balancer.proxy.hops import COUNTED, check_loop, counted_down
from balancer.proxy.pool import Pool
from balancer.proxy.service import Service

_STRICT: Final = b"Strict-Transport-Security: max-age=%d\r\n"


class Sender(Protocol):
    """What a backend is told of the client; see `client.Client`."""

    address: str
    proto: bytes
    is_trusted: bool
    identity: bytes


def compose_request(x: Exchange, service: Service, client: Sender, pass_host: bool) -> None:
    """Work out `x.request_id` and `x.upstream_head`: the whole head, or without Host where that depends on the backend.

    Raises Fault (508) when the request goes round in a loop.
    """
    head = x.head
    address, proto, is_trusted = client.address, client.proto, client.is_trusted
    name, lower = id_names(service.view.picture.request_id_header)
    fields = upstream_fields(head, is_trusted, pass_host, lower)
    hops = check_loop(head) if head.special else 0
    if head.method in COUNTED:
        fields = counted_down(head, fields)
    if is_trusted:
        block = extended_block(head, address, proto, head.host)
        x.request_id = request_id(head, lower)
    else:
        block = forwarded_block(address, proto, head.host, hops)
    if not x.request_id:
        x.request_id = service.next_request_id()
        block = b"%s%s: %s\r\n" % (block, name, x.request_id)
    if client.identity:
        block += client.identity
    if head.length == CHUNKED:
        block += b"Transfer-Encoding: chunked\r\n"
    if head.upgrade:
        block += b"Connection: Upgrade\r\nUpgrade: %s\r\n" % head.upgrade
    x.upstream_head = b"%s %s HTTP/1.1\r\n%s%s\r\n" % (head.method, x.target, fields, block)


def response_start(x: Exchange, response: ResponseHead, service: Service, hsts: int = 0) -> bytes:
    """Status line and fields, without what says how connection and body go on, and without the empty line.

    hsts: seconds of Strict-Transport-Security, which the backend's own word goes before; 0: none.
    """
    picture = service.view.picture
    fields = downstream_fields(response, _server_value(picture.server_header))
    name, lower = id_names(picture.request_id_header)
    lowered = b"\n" + fields.lower()
    if lower in lowered:
        # Many frameworks return the id that they were given: once is enough.
        fields = _line_finder(lower).sub(b"", fields)
    if x.pool is not None and x.pool.picture.backend_header and x.backend is not None:
        fields = _signed(fields, x.pool.picture.backend_header, x.backend)
    if b"\ndate:" not in lowered:
        fields += b"Date: %s\r\n" % service.date()  # RFC 9110 6.6.1: who passes it on without one must add it
    if hsts and b"\nstrict-transport-security:" not in lowered:
        fields += _STRICT % hsts
    sticky = x.pool.wishes.sticky if x.pool is not None and x.pool.wishes is not None else None
    if sticky is not None and x.backend is not None and x.backend.name != x.wish.slot:
        fields += sticky.line(x.backend.name)
    return b"HTTP/1.1 %d %s\r\n%s%s: %s\r\n" % (response.status, response.reason, fields, name, x.request_id)


def _signed(fields: bytes, header: str, backend: Backend) -> bytes:
    """With who gave the response, in the manner of RFC 9651, in the place of what it may have said of itself."""
    name, lower = id_names(header)
    return b"%s%s: %s;generation=%d\r\n" % (
        _line_finder(lower).sub(b"", fields),
        name,
        backend.name.encode(),
        backend.generation,
    )


def own_answer(x: Exchange, service: Service, pool: Pool | None, fault: Fault | None, close: bool, hsts: int) -> bytes:
    """What we say ourselves: to a fault, or (None) what `x.own` holds; its body counts as sent.

    hsts: as for `response_start`.
    """
    name = id_names(service.view.picture.request_id_header)[0]
    head = x.head
    if fault is None:
        assert x.own is not None
        status, phrase, fields, body = x.own
        if hsts:
            fields += _STRICT % hsts
        tail = b"Connection: close\r\n" if close else b"" if head.minor else b"Connection: keep-alive\r\n"
        lines = (status, phrase, fields, service.date(), name, x.request_id, tail, body)
        x.sent = len(body)
        return b"HTTP/1.1 %d %s\r\n%sDate: %s\r\n%s: %s\r\n%s\r\n%s" % lines
    message = reply(
        fault,
        minor=head.minor,
        accept_json=prefers_json(head.fields),
        request_id=x.request_id,
        id_header=name,
        retry_after=x.retry_after or (pool.retry_after() if pool is not None else None),
        close=close,
        head_only=head.method == b"HEAD",
        date=service.date(),
    )
    x.sent = len(message) - message.index(b"\r\n\r\n") - 4
    return message.replace(b"\r\n", b"\r\n" + _STRICT % hsts, 1) if hsts else message


def own_request_id(head: RequestHead, service: Service, is_trusted: bool) -> bytes:
    """The id of a request that gets no further than here."""
    _, lower = id_names(service.view.picture.request_id_header)
    return (request_id(head, lower) if is_trusted else b"") or service.next_request_id()


@lru_cache(maxsize=64)
def id_names(name: str) -> tuple[bytes, bytes]:
    """A header's name as it is written, and in lower case."""
    return name.encode("ascii"), name.lower().encode("ascii")


@lru_cache(maxsize=64)
def _line_finder(lower: bytes) -> "re.Pattern[bytes]":
    return re.compile(rb"(?im)^" + re.escape(lower) + rb":[^\r\n]*\r\n")


@lru_cache(maxsize=8)
def _server_value(setting: str) -> bytes | None:
    """What `downstream_fields` takes for [proxy].server_header."""
    return None if setting == "pass" else b"" if setting == "remove" else setting.encode("latin-1")
