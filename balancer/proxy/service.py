"""What all client connections of a proxy process share."""

import os
import traceback
from collections.abc import Callable
from email.utils import formatdate
from itertools import count
from time import monotonic
from typing import Any, Protocol

import trio

from balancer.net.poller import Poller
from balancer.net.splice import Pipes
from balancer.net.wire import Wire
from balancer.proxy.exchange import Exchange
from balancer.proxy.forward import Forwarder
from balancer.proxy.pace import Pace
from balancer.proxy.security import Security
from balancer.proxy.view import View
from balancer.telemetry.access_log import AccessLog
from balancer.telemetry.table import FAULTS


class Connected(Protocol):
    """A client, for those who look at all of them; see `client.Client`."""

    wire: Wire
    waits_since: float
    started: float
    exchange: Exchange | None

    def has_something_to_say(self) -> bool:
        """Whether bytes of a request have come that nobody has read yet."""
        ...


class Service:
    """One per process: the view, the way to backends, the kept pipes, the log, and the clients that are connected."""

    def __init__(self, view: View, poller: Poller, tell: Callable[[dict[str, Any]], object]) -> None:
        self.view = view
        self.poller = poller
        self.pipes = Pipes()
        self.pace = Pace()
        self.security = Security()
        self.forwarder = Forwarder(view, poller, self.security)
        self.cells = view.table.cells
        self.access: AccessLog | None = None
        self.clients: set[Connected] = set()
        self.room = trio.Event()  # a connection has ended
        self._tell = tell
        # Unique over processes and restarts by its first half, within this process by the second.
        self._id_prefix = os.urandom(8).hex().encode()
        self._id_numbers = count(1)
        self._second = -1
        self._date = b""

    def next_request_id(self) -> bytes:
        """A new request id: 24 hexadecimal digits."""
        return b"%s%08x" % (self._id_prefix, next(self._id_numbers))

    def date(self) -> bytes:
        """Now, as an HTTP-date; worked out once a second."""
        second = int(monotonic())
        if second != self._second:
            self._second = second
            self._date = formatdate(usegmt=True).encode()
        return self._date

    def log(self, level: str, event: str, **fields: Any) -> None:
        """A line in the balancer's log, by way of the supervisor."""
        self._tell({"type": "log", "level": level, "event": event} | fields)

    def report_bug(self, error: Exception) -> None:
        """What nobody expected: counted and logged with its traceback."""
        self.cells[self.view.table.proxy_base(self.view.proxy) + FAULTS] += 1
        text = "".join(traceback.format_exception(error))
        self.log("error", "unexpected error in a connection", traceback=text[-8000:])
