"""What the balancer answers itself although nothing is wrong: whether it is ready, the way to https, the last word of OPTIONS and TRACE."""

from typing import TYPE_CHECKING, NamedTuple

from balancer.http1.heads import RequestHead
from balancer.proxy.hops import COUNTED, forwards_left, last_answer
from balancer.proxy.redirect import https_location

if TYPE_CHECKING:
    from balancer.proxy.view import View


class Own(NamedTuple):
    """An answer: status line without its version, field lines with Content-Length among them, body."""

    status: int
    phrase: bytes
    fields: bytes
    body: bytes = b""


def own_word(head: RequestHead, listener: str, view: "View") -> Own | None:
    """The answer to a request that goes no further than here; None for every other. Raises Fault."""
    if view.ready_paths and head.target.partition(b"?")[0] == view.ready_paths.get(listener):
        return _readiness(head, listener, view)
    if view.redirects and (port := view.redirects.get(listener)):
        location = https_location(head, port)
        return Own(308, b"Permanent Redirect", b"Location: %s\r\nContent-Length: 0\r\n" % location)
    if head.method in COUNTED and forwards_left(head) == 0:
        return Own(200, b"OK", *last_answer(head))
    return None


def _readiness(head: RequestHead, listener: str, view: "View") -> Own:
    """For who probes this balancer where its traffic goes: a balancer in front of it, a cloud's load balancer."""
    trouble = view.unready(listener)
    body = "\n".join(trouble or ["ready"]).encode() + b"\n"
    fields = b"Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nContent-Length: %d\r\n" % len(body)
    if head.method == b"HEAD":
        body = b""
    return Own(503, b"Service Unavailable", fields, body) if trouble else Own(200, b"OK", fields, body)
