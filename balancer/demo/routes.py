"""What can be asked of the demo: one function per path, and the table of them."""

import json
import os
import random
import signal
import time
from collections.abc import Callable

from balancer.demo.exchange import Exchange
from balancer.demo.page import PAGE
from balancer.demo.websocket import serve_websocket

STARTED = time.monotonic()
_leaked: list[bytes] = []


def answer(exchange: Exchange) -> None:
    """Find the path's function and call it; a parameter that is not a number is answered with 400."""
    handler = ROUTES.get(exchange.path)
    if handler is None:
        exchange.reply(f"nothing at {exchange.path}; see /\n", status=404)
        return
    try:
        handler(exchange)
    except ValueError as error:
        exchange.reply(f"{error}\n", status=400)


def about() -> dict[str, object]:
    """Which process this is, for people and for tests."""
    return {
        "pid": os.getpid(),
        "backend": os.environ.get("BALANCER_BACKEND", ""),
        "pool": os.environ.get("BALANCER_POOL", ""),
        "generation": os.environ.get("BALANCER_GENERATION", ""),
        "uptime_seconds": round(time.monotonic() - STARTED, 3),
    }


def reply_json(exchange: Exchange, value: object) -> None:
    """A JSON answer, with the new line that a terminal wants."""
    exchange.reply(json.dumps(value) + "\n", "application/json")


def index(exchange: Exchange) -> None:
    """Links for a browser, JSON for the rest."""
    if "text/html" in exchange.fields.get("accept", ""):
        told = " · ".join(f"{name} {value}" for name, value in about().items() if value != "")
        exchange.reply(PAGE.replace("ABOUT", told), "text/html; charset=utf-8")
    else:
        reply_json(exchange, about())


def headers(exchange: Exchange) -> None:
    """The request as it arrived: what the balancer has added shows here."""
    reply_json(exchange, {**about(), "method": exchange.method, "headers": exchange.headers})


def slow(exchange: Exchange) -> None:
    """?seconds=2: the answer comes that much later."""
    time.sleep(float(exchange.query.get("seconds", "2")))
    reply_json(exchange, about())


def fail(exchange: Exchange) -> None:
    """?status=500&rate=0.3: that share of requests gets that status."""
    status = int(exchange.query.get("status", "500"))
    if not 200 <= status <= 599:
        raise ValueError("status must be from 200 to 599")
    if random.random() < float(exchange.query.get("rate", "1")):
        exchange.reply("failing as asked\n", status=status)
    else:
        reply_json(exchange, about())


def stream(exchange: Exchange) -> None:
    """?count=10: so many chunked lines, one every 200 ms."""
    count = int(exchange.query.get("count", "10"))
    exchange.begin("text/plain; charset=utf-8")
    for number in range(count):
        if number:
            time.sleep(0.2)
        exchange.write(f"line {number} from pid {os.getpid()}\n".encode())
    exchange.end()


def events(exchange: Exchange) -> None:
    """Server-sent events, one a second (?seconds=), ?count= of them or until the process stops."""
    count = int(exchange.query.get("count", "-1"))
    apart = float(exchange.query.get("seconds", "1"))
    exchange.begin("text/event-stream")
    number = 0
    while number != count:
        exchange.write(f"id: {number}\ndata: {json.dumps(about())}\n\n".encode())
        number += 1
        if number != count and exchange.stopping.wait(apart):
            break
    exchange.end()


def echo(exchange: Exchange) -> None:
    """The request's body, any method, sent back while it arrives and framed as it came."""
    length = exchange.fields.get("content-length")
    chunked = "transfer-encoding" in exchange.fields
    exchange.welcome_body()
    exchange.begin(
        exchange.fields.get("content-type", "application/octet-stream"), None if chunked else int(length or "0")
    )
    for piece in exchange.body():
        exchange.write(piece)
    exchange.end()


def some_bytes(exchange: Exchange) -> None:
    """?n=1000000: so many bytes, with their length said first."""
    left = int(exchange.query.get("n", "1000"))
    exchange.begin("application/octet-stream", max(left, 0))
    block = bytes(range(256)) * 256
    while left > 0:
        exchange.write(block[:left])
        left -= len(block)
    exchange.end()


def crash(exchange: Exchange) -> None:
    """?code=1: the process ends here and now, with this request unanswered."""
    os._exit(int(exchange.query.get("code", "1")))


def hang(exchange: Exchange) -> None:
    """This request is never answered; others are."""
    exchange.be_endless()
    while exchange.reader.read1(65536):
        pass


def freeze(_: Exchange) -> None:
    """The whole process stops working, as one in an endless loop would seem to."""
    os.kill(os.getpid(), signal.SIGSTOP)


def leak(exchange: Exchange) -> None:
    """?mb=10: so much more memory is in use from now on."""
    _leaked.append(b"x" * (int(exchange.query.get("mb", "10")) << 20))
    reply_json(exchange, {**about(), "leaked_mb": sum(map(len, _leaked)) >> 20})


ROUTES: dict[str, Callable[[Exchange], None]] = {
    "/": index,
    "/headers": headers,
    "/healthz": lambda exchange: exchange.reply("ok\n"),
    "/slow": slow,
    "/fail": fail,
    "/stream": stream,
    "/events": events,
    "/echo": echo,
    "/bytes": some_bytes,
    "/ws": serve_websocket,
    "/crash": crash,
    "/hang": hang,
    "/freeze": freeze,
    "/leak": leak,
}
