"""Deadlines that a sweep holds: what came in time is in time, also when this process was late to look."""

import os
import time

from tests.proxy.ends import OK, End, Origin, requests
from tests.proxy.harness import GET, front

STANDSTILL = 0.6  # seconds in which no task runs, as when the machine gives the process no turn


async def test_an_answer_that_came_while_the_process_stood_still_is_not_late() -> None:
    async def script(origin: Origin, end: End) -> None:
        async for _ in requests(origin, end):
            assert os.write(end.sock.fileno(), OK) == len(OK)
            time.sleep(STANDSTILL)  # noqa: ASYNC251

    async with front(Origin(script), pool={"response_timeout": 0.3}) as proxy, proxy.client() as client:
        for _ in range(3):
            await client.send(GET)
            assert (await client.response()).status == 200


async def test_a_request_that_came_while_the_process_stood_still_is_not_late() -> None:
    async with front(Origin(), proxy={"header_timeout": 0.3}) as proxy, proxy.client() as client:
        for _ in range(3):
            await client.send(GET[:5])
            await proxy.quiet()
            assert os.write(client.sock.fileno(), GET[5:]) == len(GET[5:])
            time.sleep(STANDSTILL)  # noqa: ASYNC251
            assert (await client.response()).status == 200
