"""From http to https: where a listener with `redirect` sends everybody, whatever they ask for."""

from balancer.errors import Fault, Reason, Side
from balancer.http1.heads import RequestHead
from balancer.proxy.routing import bare_host


def https_location(head: RequestHead, port: int) -> bytes:
    """The same URL on https. Raises Fault for an HTTP/1.0 request without Host, of which nobody knows what it was.

    A client that named no port is on the usual one, and so is https for it, whatever the port here is called behind a
    container's or a router's mapping. One that did name a port gets ours.
    """
    if not head.host:
        raise Fault(Side.CLIENT, Reason.BAD_REQUEST, detail="no Host to redirect to")
    host = bare_host(head.host)
    names_port = head.host.rpartition(b"]")[2].find(b":") >= 0
    authority = b"%s:%d" % (host, port) if names_port and port != 443 else host
    return b"https://%s%s" % (authority, b"" if head.target == b"*" else head.target)
