"""What is on a backend that drains, and what was on one whose process has ended, as the supervisor is told of it."""

from collections.abc import Iterable, Sequence
from time import monotonic
from typing import Any, Final, NamedTuple

from balancer.proxy.exchange import Exchange
from balancer.proxy.held import Held

SHOWN: Final = 20  # requests that are told
# A process that ends closes its connections a moment before it is known to have ended: what it broke off so lately was on it.
AT_ITS_END: Final = 0.25
FRESH: Final = 1.0  # seconds since it was sent within which an upgraded request may still be what ended the process


class Casualties(NamedTuple):
    """suspects: what may have ended it; upgraded: what was beside it; counted: how many of these were still in flight at the end."""

    suspects: list[Held]
    upgraded: list[Held]
    counted: int


def held(x: Exchange, until: float = float("inf")) -> Held:
    """For people: what, since when, under which id; never the query, which may hold secrets."""
    is_upgraded = x.status == 101
    told = {
        "method": x.head.method.decode("latin-1"),
        "path": x.head.target.partition(b"?")[0].decode("latin-1")[:200],
        "seconds": round(min(until, monotonic()) - x.started, 3),
        "request_id": x.request_id.decode("latin-1"),
        "answered": x.status != 0,
    }
    if is_upgraded:
        told["upgraded"] = True
    return Held(x.fingerprint, x.sent_at, until, is_upgraded, told)


def casualties(present: Iterable[Exchange], parted: Iterable[Held], at: float) -> Casualties:
    """What the end of a process at that time took with it.

    present: what is on it still; parted: upgraded connections that it has broken off. What was not sent yet, or only after its end, has
    nothing to do with it.
    """
    found = [held(x) for x in present] + [one for one in parted if one.until >= at - AT_ITS_END]
    sent = [one for one in found if 0 < one.sent_at <= at]
    # What kills a process most often does so soon. A WebSocket that has been open for an hour was present at every crash of that hour;
    # were it a suspect, the kind that all clients keep open would soon be the likeliest one, and in quarantine. Only one that had just
    # been opened is judged as any request is, as opening it may be what the process has died of; but not where others of its kind
    # have lived on for long, or the clients that come back after each crash would accuse each other.
    lasting = {one.fingerprint for one in sent if one.is_upgraded and at - one.sent_at > FRESH}
    upgraded = [one for one in sent if one.is_upgraded and one.fingerprint in lasting]
    return Casualties([one for one in sent if one not in upgraded], upgraded, sum(one.until >= at for one in upgraded))


def told(found: Sequence[Held]) -> list[dict[str, Any]]:
    """The first of them, as the supervisor gets them."""
    return [one.told for one in found[:SHOWN]]
