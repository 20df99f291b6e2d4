"""A request on a backend, as it is known after its end too."""

from typing import Any, NamedTuple


class Held(NamedTuple):
    """One request on a backend. Times are CLOCK_MONOTONIC seconds."""

    fingerprint: bytes
    sent_at: float
    until: float  # when it was over; infinity: it is not
    is_upgraded: bool
    told: dict[str, Any]
