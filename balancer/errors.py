"""What can go wrong, as values that every layer shares.

A `Fault` says whose it was, when it happened and why; status, retry, log level, metric label and `Proxy-Status` all
follow from those three (`http1/replies.py`). trio, OS and h11 exceptions become faults at the seam and are not seen above it.
"""

from enum import StrEnum


class BalancerError(Exception):
    """Base of every error that this package raises on purpose; its text is one line fit for a user."""


class Side(StrEnum):
    """Whose fault it was."""

    CLIENT = "client"
    BACKEND = "backend"
    BALANCER = "balancer"


class Moment(StrEnum):
    """How far the exchange had come, seen from the backend: what decides whether another attempt is safe."""

    BEFORE_SEND = "before_send"
    AFTER_SEND = "after_send"
    MID_RESPONSE = "mid_response"


class Reason(StrEnum):
    """Why; the closed list behind the metric label, `Proxy-Status` and the access log."""

    # the client's
    BAD_REQUEST = "bad_request"
    HEAD_TIMEOUT = "head_timeout"
    REQUEST_BODY_TIMEOUT = "request_body_timeout"
    TARGET_TOO_LONG = "target_too_long"
    HEAD_TOO_LARGE = "head_too_large"
    TOO_MANY_HEADERS = "too_many_headers"
    BODY_TOO_LARGE = "body_too_large"
    UNKNOWN_TRANSFER_CODING = "unknown_transfer_coding"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    VERSION_NOT_SUPPORTED = "version_not_supported"
    NO_ROUTE = "no_route"
    DENIED = "denied"
    TOO_MANY_REQUESTS = "too_many_requests"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    LOOP = "loop"
    BAD_PROXY_HEADER = "bad_proxy_header"
    PLAIN_HTTP = "plain_http"
    CLIENT_GONE = "client_gone"
    # the backend's
    CONNECT_REFUSED = "connect_refused"
    CONNECT_TIMEOUT = "connect_timeout"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    RESET = "reset"
    BAD_RESPONSE = "bad_response"
    RESPONSE_TIMEOUT = "response_timeout"
    RESPONSE_BODY_TIMEOUT = "response_body_timeout"
    TRUNCATED = "truncated"
    # the balancer's own
    NO_BACKEND = "no_backend"
    QUEUE_FULL = "queue_full"
    QUEUE_TIMEOUT = "queue_timeout"
    QUARANTINED = "quarantined"
    STOPPING = "stopping"
    DRAINING = "draining"
    INTERNAL = "internal"


class Fault(BalancerError):
    """One exchange failed.

    side: whose; moment: when; reason: why, from the closed list; detail: a short text for the log, never for the client.
    """

    def __init__(self, side: Side, reason: Reason, moment: Moment = Moment.BEFORE_SEND, detail: str = "") -> None:
        super().__init__(side, reason, moment, detail)
        self.side = side
        self.reason = reason
        self.moment = moment
        self.detail = detail

    def __str__(self) -> str:
        # Not made beforehand: every connection ends with a fault for whoever would still wait on it, and few are ever read.
        return f"{self.side}: {self.reason}" + (f" ({self.detail})" if self.detail else "")

    def again(self) -> "Fault":
        """The same fault, to be raised where this one is kept.

        What is kept and raised forms a ring with the frames that know its keeper, and all of it stays until a collection of garbage.
        """
        return Fault(self.side, self.reason, self.moment, self.detail)


class ChannelClosed(BalancerError):
    """The other end of a channel is gone."""
