"""What a drain waits for, told to whoever watches it."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final

import trio

from balancer.pool.backend import Backend
from balancer.supervisor.surroundings import Surroundings

REPORT_TIME: Final = 0.5  # seconds for the proxies to say what is still on it
FIRST_WORD: Final = 1.0  # seconds: a drain that takes less needs no words
NEXT_WORD: Final = 5.0
_NAMED: Final = 5

Say = Callable[..., None]  # (event, text, **fields)


async def narrated(around: Surroundings, backend: Backend, end: Callable[[], Awaitable[object]], say: Say) -> None:
    """Wait for `end`; say now and then which requests are still on the backend."""

    async def tell() -> None:
        await trio.sleep(FIRST_WORD)
        while True:
            requests = await holders(around, backend)
            if requests:
                text = f"{backend.id.name} waits for {described(requests, around.truth.ledger.table.in_flight(backend.row))}"
                say("waiting", text, backend=backend.id.name, requests=requests)
            await trio.sleep(NEXT_WORD)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(tell)
        await end()
        nursery.cancel_scope.cancel()


async def holders(around: Surroundings, backend: Backend) -> list[dict[str, Any]]:
    """The requests on this backend, as far as the proxies say it in time: [{"method", "path", "seconds", "request_id"}]."""
    with trio.move_on_after(REPORT_TIME):
        return await around.holders(backend.id)
    return []


def described(requests: Sequence[Mapping[str, Any]], count: int = 0) -> str:
    """ "3 requests: GET /export 41 s, POST /upload 12 s and 1 more"; count: how many there are, if more than are given."""
    oldest = sorted(requests, key=lambda request: -request["seconds"])[:_NAMED]
    named = ", ".join(f"{request['method']} {request['path']} {_age(request['seconds'])}" for request in oldest)
    count = max(count, len(requests))
    more = f" and {count - len(oldest)} more" if count > len(oldest) else ""
    return f"{count} {'request' if count == 1 else 'requests'}: {named}{more}"


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
