"""What the admin API answers: a table of routes, a function each. Pure of sockets: `admin/exchange.py` carries it."""

import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from balancer.admin.operations import BadArguments, NotFound, OperationFailed, Operations
from balancer.admin.page import POLICY, asset
from balancer.errors import BalancerError

JSON = "application/json"
JSON_LINES = "application/x-ndjson"
EVENT_STREAM = "text/event-stream"
TEXT = "text/plain; charset=utf-8"
LAST_MAX = 100_000
REPLY_TIMEOUT = 10.0  # seconds, where the request names none

_HINT = "try /, /metrics, /healthz, /readyz, /api/v1/status, /api/v1/events or /api/v1/logs"


@dataclass(frozen=True, slots=True)
class Asked:
    """One request, read whole. Header names in lower case."""

    method: str
    path: str
    query: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


@dataclass(frozen=True, slots=True)
class Answer:
    """One that is complete."""

    status: int
    content_type: str
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Stream:
    """One that goes on, piece by piece; `sign_of_life` may be sent between any two pieces and means nothing."""

    content_type: str
    pieces: AsyncIterator[bytes]
    sign_of_life: bytes


async def answer(operations: Operations, asked: Asked) -> Answer | Stream:
    """What is to be said. Raises nothing that is a `BalancerError`: those are answers too."""
    known = [(method, found, handler) for method, path, handler in _ROUTES if (found := path.fullmatch(asked.path))]
    if not known:
        return error(404, f"there is no {asked.path[:200]!r} here; {_HINT}")
    method = "GET" if asked.method == "HEAD" else asked.method
    for allowed, found, handler in known:
        if allowed == method:
            try:
                said = handler(operations, asked, **found.groupdict())
                return said if isinstance(said, Answer | Stream) else await said
            except BalancerError as failed:
                return error(_status_of(failed), str(failed))
    allow = ", ".join(sorted({allowed for allowed, _, _ in known}))
    return error(405, f"{asked.path} takes {allow}", (("Allow", allow),))


def error(status: int, message: str, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
    """A plain JSON error."""
    return Answer(status, JSON, _line({"error": message}), headers)


def _page(operations: Operations, asked: Asked, name: str = "index.html") -> Answer:
    content_type, body = asset(name)
    return Answer(200, content_type, body, (("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer")))


async def _metrics(operations: Operations, asked: Asked) -> Answer:
    content_type, body = await operations.metrics("application/openmetrics-text" in asked.headers.get("accept", ""))
    return Answer(200, content_type, body)


def _healthz(operations: Operations, asked: Asked) -> Answer:
    return Answer(200, TEXT, b"ok\n")


def _readyz(operations: Operations, asked: Asked) -> Answer:
    reasons = operations.unready()
    if reasons:
        return Answer(503, TEXT, ("\n".join(reasons) + "\n").encode())
    return Answer(200, TEXT, b"ok\n")


def _status(operations: Operations, asked: Asked) -> Answer:
    return Answer(200, JSON, _line(operations.status()))


def _events(operations: Operations, asked: Asked) -> Stream:
    last = _number(asked, "last", 0)
    events = operations.events(last, _flag(asked, "follow", default=True))
    return Stream(EVENT_STREAM, _server_sent(events), b": alive\n\n")


def _logs(operations: Operations, asked: Asked) -> Stream:
    query = asked.query
    last, follow = _number(asked, "last", 100), _flag(asked, "follow", default=False)
    lines = operations.logs(query.get("pool", ""), query.get("backend", ""), last, follow)
    return Stream(JSON_LINES, _json_lines(lines), b"\n")


def _reload(operations: Operations, asked: Asked) -> Stream:
    return _progress(operations.reload())


def _plan(operations: Operations, asked: Asked) -> Stream:
    return _progress(operations.plan(_argument(asked, "config", str, default="")))


def _restart(operations: Operations, asked: Asked, pool: str = "", name: str = "") -> Stream:
    backend = name or str(_argument(asked, "backend", str, default=""))
    return _progress(operations.restart(pool, backend))


def _scale(operations: Operations, asked: Asked, pool: str) -> Stream:
    return _progress(operations.scale(pool, _argument(asked, "backends", int, str)))


def _drain(operations: Operations, asked: Asked, name: str) -> Stream:
    return _progress(operations.drain(name))


def _undrain(operations: Operations, asked: Asked, name: str) -> Stream:
    return _progress(operations.undrain(name))


def _weight(operations: Operations, asked: Asked, name: str) -> Stream:
    return _progress(operations.weigh(name, _argument(asked, "weight", int)))


def _send(operations: Operations, asked: Asked, pool: str = "", name: str = "") -> Answer | Stream:
    message = _argument(asked, "message", object)
    if _argument(asked, "wait", bool, default=False):
        timeout = _argument(asked, "timeout", int, float, default=REPLY_TIMEOUT)
        return _progress(operations.ask(pool, name, message, timeout))
    taken = operations.send(pool, name, message)
    return Answer(200, JSON, _line({"ok": True, "sent": taken}))


def _stop(operations: Operations, asked: Asked) -> Answer:
    operations.stop()
    return Answer(202, JSON, _line({"ok": True}))


Handler = Callable[..., Answer | Stream | Awaitable[Answer]]

# Named groups of a path are arguments of its function.
_ROUTES: tuple[tuple[str, re.Pattern[str], Handler], ...] = tuple(
    (method, re.compile(path), handler)
    for method, path, handler in (
        ("GET", "/", _page),
        ("GET", "/(?P<name>page[.](?:js|css))", _page),
        ("GET", "/metrics", _metrics),
        ("GET", "/healthz", _healthz),
        ("GET", "/readyz", _readyz),
        ("GET", "/api/v1/status", _status),
        ("GET", "/api/v1/events", _events),
        ("GET", "/api/v1/logs", _logs),
        ("POST", "/api/v1/reload", _reload),
        ("POST", "/api/v1/plan", _plan),
        ("POST", "/api/v1/pools/(?P<pool>[^/]+)/restart", _restart),
        ("POST", "/api/v1/pools/(?P<pool>[^/]+)/scale", _scale),
        ("POST", "/api/v1/pools/(?P<pool>[^/]+)/send", _send),
        ("POST", "/api/v1/backends/(?P<name>[^/]+)/restart", _restart),
        ("POST", "/api/v1/backends/(?P<name>[^/]+)/drain", _drain),
        ("POST", "/api/v1/backends/(?P<name>[^/]+)/undrain", _undrain),
        ("POST", "/api/v1/backends/(?P<name>[^/]+)/weight", _weight),
        ("POST", "/api/v1/backends/(?P<name>[^/]+)/send", _send),
        ("POST", "/api/v1/stop", _stop),
    )
)


def _progress(steps: AsyncIterator[dict[str, Any]]) -> Stream:
    return Stream(JSON_LINES, _json_lines(steps), b"\n")


_MISSING: Any = object()
_KINDS = {int: "a number", float: "a number", str: "a string", bool: "true or false"}


def _argument(asked: Asked, name: str, *kinds: type, default: Any = _MISSING) -> Any:
    """A member of the JSON body. Raises BadArguments."""
    try:
        body = json.loads(asked.body or b"{}")
    except (ValueError, RecursionError):
        raise BadArguments("the body is not JSON") from None
    if not isinstance(body, dict):
        raise BadArguments("the body is not a JSON object")
    value = body.get(name, default)
    if value is _MISSING:
        raise BadArguments(f"the body needs {name!r}")
    # To Python, true is a number.
    if not isinstance(value, kinds) or (isinstance(value, bool) and not {bool, object}.intersection(kinds)):
        raise BadArguments(f"{name}: expected {' or '.join(dict.fromkeys(_KINDS[kind] for kind in kinds))}")
    return value


async def _json_lines(values: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """A line each; a failure half-way is a last line {"error": …}, for the status is already sent."""
    async with aclosing(values) as items:  # type: ignore[type-var]  # in practice they are generators
        try:
            async for value in items:
                yield _line(value)
        except BalancerError as failed:
            yield _line({"error": str(failed)})


async def _server_sent(events: AsyncIterator[dict[str, Any]]) -> AsyncIterator[bytes]:
    """WHATWG HTML, server-sent events: `id` is the event's number, `event` its kind."""
    async with aclosing(events) as items:  # type: ignore[type-var]
        async for value in items:
            kind = str(value.get("event", "message")).replace("\n", " ")
            yield b"id: %d\nevent: %s\ndata: %s\n" % (value.get("number", 0), kind.encode(), _line(value))


def _line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), default=str).encode() + b"\n"


def _number(asked: Asked, name: str, default: int) -> int:
    text = asked.query.get(name, "")
    if not text:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise BadArguments(f"{name}={text[:40]!r}: expected a number")
    return min(int(text), LAST_MAX)


def _flag(asked: Asked, name: str, default: bool) -> bool:
    values = {"1": True, "true": True, "": True, "0": False, "false": False}
    if name not in asked.query:
        return default
    if asked.query[name] not in values:
        raise BadArguments(f"{name}={asked.query[name][:40]!r}: expected 1 or 0")
    return values[asked.query[name]]


def _status_of(failed: BalancerError) -> int:
    if isinstance(failed, NotFound):
        return 404
    if isinstance(failed, BadArguments):
        return 400
    return 409 if isinstance(failed, OperationFailed) else 500
