"""Streams without an end of their own on a backend that drains: ended a few at a time, spread over the drain.

Closed all at once, their clients would all come back at once. A WebSocket is told that we go away (`proxy/tunnel`), an event
stream is ended; both reconnect by themselves. Responses with an end are left alone.
"""

from collections.abc import Callable, Iterable
from functools import partial

from balancer.errors import Fault, Moment, Reason, Side
from balancer.http1.headers import field_values
from balancer.http1.responses import ResponseHead
from balancer.proxy.backend import Backend
from balancer.proxy.exchange import Exchange
from balancer.proxy.service import Service
from balancer.proxy.upstream import Upstream

_EVENT_STREAM = b"text/event-stream"  # WHATWG HTML, server-sent events


def ending_of(response: ResponseHead, upstream: Upstream) -> Callable[[], None] | None:
    """What ends a response whose length is not known, if it is a stream of events; else None: it ends by itself."""
    if any(value.lower().startswith(_EVENT_STREAM) for value in field_values(response.fields, b"content-type")):
        return partial(upstream.wire.interrupt, Fault(Side.BALANCER, Reason.DRAINING, Moment.MID_RESPONSE))
    return None


def say_farewell(service: Service, draining: Iterable[Backend], now: float, elapsed: float) -> None:
    """End as many streams on these backends as are due; elapsed: seconds since the last time.

    As many per second as spreads those that are there over the time that is left; the oldest first.
    """
    streams: dict[Backend, list[Exchange]] = {backend: [] for backend in draining}
    for client in service.clients:
        x = client.exchange
        if x is not None and x.endless is not None and x.backend in streams:
            streams[x.backend].append(x)
    for backend, found in streams.items():
        left = backend.drain_until - now
        backend.farewells += len(found) * min(1.0, elapsed / left if left > 0 else 1.0)
        due = int(backend.farewells)
        if due:
            backend.farewells -= due
            for x in sorted(found, key=lambda x: x.started)[:due]:
                end, x.endless = x.endless, None
                if end is not None:
                    end()
