"""h11's word on a head that our recognisers decline: it is the source of the error's text, and has a veto on odd forms."""

import h11


def request_objection(head: bytes) -> str:
    """What h11 has against `head`, the bytes of a request up to and including its empty line; "" if nothing."""
    return _objection(h11.Connection(h11.SERVER, max_incomplete_event_size=len(head) + 1), head)


def response_objection(head: bytes) -> str:
    """The same for a response, whatever the request was."""
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=len(head) + 1)
    connection.send(h11.Request(method="GET", target="/", headers=[("Host", "backend")]))
    connection.send(h11.EndOfMessage())
    return _objection(connection, head)


def _objection(connection: h11.Connection, head: bytes) -> str:
    try:
        connection.receive_data(head)
        connection.next_event()
    except h11.RemoteProtocolError as error:
        # h11 raises it from within itself: a ring that would hold every frame below until a collection of garbage.
        error.__traceback__ = None
        return str(error)[:200]
    return ""
