"""Requests whose body is still arriving: early answers, bodies that end early, 100-continue."""

import pytest
import trio

from tests.proxy.ends import AT_ONCE, End, Origin, Torn, answers
from tests.proxy.harness import GET, front


async def test_the_rest_of_an_upload_and_the_next_request_in_one_segment() -> None:
    origin = Origin()
    async with front(origin) as proxy, proxy.client() as client:
        await client.send(b"POST /1 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na")
        await proxy.quiet()
        await client.send(b"bc\r\n0\r\n\r\n" + GET)
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
    assert [request.target for request in origin.requests] == ["/1", "/"]


async def test_413_in_the_middle_of_a_chunked_body() -> None:
    origin = Origin()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with front(origin, proxy={"max_body_size": 10}) as proxy:
        for first in (b"5\r\nabcde\r\n", b"a\r\nabcdefghij\r\n"):
            async with proxy.client() as client:
                await client.send(head + first)
                await origin.until(lambda origin: origin.open == 1)
                await client.send(b"6\r\nfghijk\r\n0\r\n\r\n")
                assert (await client.response()).status == 413
            await origin.until(lambda origin: origin.open == 0)
    assert not origin.requests


EXPECTING = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"


async def test_expect_continue_is_between_client_and_backend() -> None:
    async def willing(origin: Origin, end: End) -> None:
        head = await end.head()
        assert head.one("expect") == "100-continue"
        await end.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        head.body = await end.take(5)
        origin.got(head)
        await end.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async def unwilling(origin: Origin, end: End) -> None:
        origin.got(await end.head())
        await end.send(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n")
        await end.closed()

    async with front(Origin(willing)) as proxy, proxy.client() as client:
        await client.send(EXPECTING)
        assert (await client.head()).status == 100
        await client.send(b"hello")
        assert (await client.response()).status == 200
        assert proxy.origins[0].requests[0].body == b"hello"
    async with front(Origin(unwilling)) as proxy, proxy.client() as client:
        await client.send(EXPECTING)
        answer = await client.response()
        assert (answer.status, answer.one("connection")) == (401, "close")
    async with front(Origin(answers)) as proxy, proxy.client() as client:
        await client.send(EXPECTING)
        await proxy.quiet()
        await client.send(b"hello")
        assert (await client.response()).status == 200


async def test_a_backend_that_answers_before_the_body_is_through() -> None:
    async def early(origin: Origin, end: End) -> None:
        origin.got(await end.head())
        await end.send(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope")
        # It neither reads on nor closes.
        await end.closed()

    async with front(Origin(early)) as proxy, proxy.client() as client:
        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n")
        await proxy.quiet()
        answer = await client.response()
        assert (answer.status, answer.body, answer.one("connection")) == (403, b"nope", "close")
        # A client that reads only after all is sent gets its answer too, and the backend is let go at once.
        await proxy.origins[0].until(lambda origin: origin.open == 0, AT_ONCE)
        assert not proxy.gauges().get("in flight 0")
        await client.send(bytes(1000000))


@pytest.mark.parametrize("framing", [b"Content-Length: 3000000\r\n", b"Transfer-Encoding: chunked\r\n"])
async def test_a_backend_that_answers_and_closes_on_an_upload(framing: bytes) -> None:
    async def curt(origin: Origin, end: End) -> None:
        await end.head()
        await end.send(b"HTTP/1.1 403 No\r\nContent-Length: 4\r\n\r\nnope")

    piece = b"%x\r\n%s\r\n" % (100_000, bytes(100_000)) if b"chunked" in framing else bytes(100_000)
    async with front(Origin(curt)) as proxy:
        for _ in range(20):
            async with proxy.client() as client, trio.open_nursery() as nursery:

                async def upload(client: End = client) -> None:
                    try:
                        await client.send(b"POST / HTTP/1.1\r\nHost: a\r\n" + framing + b"\r\n")
                        for _ in range(30):
                            await client.send(piece)
                    except trio.BrokenResourceError:
                        pass

                nursery.start_soon(upload)
                # Closing with bytes unread is a reset; what the backend has said before counts.
                answer = await client.response()
                assert (answer.status, answer.body, answer.one("connection")) == (403, b"nope", "close")
        await proxy.idle()
        assert proxy.codes() == {"403": 20}


async def test_a_body_that_ends_early_or_does_not_come() -> None:
    origin = Origin()
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc"
    async with front(origin, proxy={"body_timeout": 0.2}) as proxy:
        async with proxy.client() as client:
            await client.send(head)
            await origin.until(lambda origin: origin.open == 1)
            assert (await client.response()).status == 408
        async with proxy.client() as client:
            await client.send(head)
            await origin.until(lambda origin: origin.open == 1)
            await client.stream.send_eof()
            with pytest.raises(Torn):
                await client.response()
        await origin.until(lambda origin: origin.open == 0)
        await proxy.idle()
        assert proxy.codes() == {"408": 1, "499": 1}
        assert proxy.errors() == {"request_body_timeout": 1, "client_gone": 1}
    assert not origin.requests
