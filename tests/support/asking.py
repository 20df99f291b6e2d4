"""One request on a connection of its own, for tests that need many clients at once or none of a library's cookies and pools."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h11
import trio

PATIENCE = 20.0  # seconds for an answer


@dataclass
class Reply:
    """What came back. fields: names in lower case; seconds: from the connect to the end."""

    status: int
    fields: list[tuple[str, str]]
    body: bytes
    seconds: float

    def one(self, name: str) -> str:
        """The value of the field that stands there exactly once."""
        (value,) = (value for key, value in self.fields if key == name)
        return value

    @property
    def backend(self) -> str:
        """Which one answered, of scripted backends."""
        told: dict[str, Any] = json.loads(self.body)
        return str(told["backend"])


async def ask(port: int, target: str = "/", fields: Sequence[tuple[str, str]] = ()) -> Reply:
    """GET from 127.0.0.1:port. trio.TooSlowError after 20 s, an error of trio or h11 when it breaks off."""
    started = trio.current_time()
    with trio.fail_after(PATIENCE):
        stream = await trio.open_tcp_stream("127.0.0.1", port)
        async with stream:
            http = h11.Connection(h11.CLIENT)
            head = [("Host", "asking.test"), ("Connection", "close"), *fields]
            request = http.send(h11.Request(method="GET", target=target, headers=head))
            await stream.send_all((request or b"") + (http.send(h11.EndOfMessage()) or b""))
            status, found, body = 0, [], b""
            while True:
                event = http.next_event()
                if event is h11.NEED_DATA:
                    http.receive_data(await stream.receive_some(65536))
                elif isinstance(event, h11.Response):
                    status = event.status_code
                    found = [(name.decode().lower(), value.decode("latin-1")) for name, value in event.headers]
                elif isinstance(event, h11.Data):
                    body += event.data
                elif isinstance(event, h11.EndOfMessage):
                    return Reply(status, found, body, trio.current_time() - started)


async def ask_all(port: int, count: int, target: str = "/") -> list[Reply]:
    """So many at once."""
    replies: list[Reply] = []

    async def one() -> None:
        replies.append(await ask(port, target))

    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(one)
    return replies
