"""Readiness, said where the traffic goes."""

from balancer.pool.snapshot import RoutePicture
from tests.proxy.ends import Origin
from tests.proxy.harness import Front, backend, front

READY = b"GET /balancer/ready?now HTTP/1.1\r\nHost: a\r\n\r\n"
LISTENER = {"ready_path": "/balancer/ready"}


async def said(proxy: Front, request: bytes = READY) -> tuple[int, str]:
    answer = await proxy.ask(request)
    return answer.status, answer.body.decode().strip()


async def test_a_listener_says_whether_it_is_ready() -> None:
    origin = Origin()
    async with front(origin, listener=LISTENER) as proxy:
        assert await said(proxy) == (200, "ready")
        answer = await proxy.ask(READY.replace(b"GET", b"HEAD"))
        assert (answer.status, answer.one("content-length")) == (200, "6")
        assert answer.one("cache-control") == "no-store"
        await proxy.apply(backends=(backend(0, origin.port, takes_requests=False),))
        assert await said(proxy) == (503, "pool web: no backend takes requests")
        await proxy.apply(backends=(backend(0, origin.port),), proxy={"leaving": True})
        assert await said(proxy) == (503, "the balancer stops")
        # It says so, and serves.
        assert (await proxy.ask()).status == 200
        assert [request.target for request in origin.requests] == ["/"]
        assert proxy.errors() == {}


async def test_every_pool_that_is_routed_to_counts() -> None:
    origin, other = Origin(), Origin()
    routes = (RoutePicture("", "/api", "api", False),)
    async with front(origin, listener=LISTENER) as proxy:
        await proxy.add_pool("api", other)
        await proxy.apply(routes=routes)
        assert await said(proxy) == (200, "ready")
        await proxy.apply(backends=(backend(0, origin.port, takes_requests=False),))
        assert await said(proxy) == (503, "pool web: no backend takes requests")


async def test_without_a_path_it_is_the_backend_s() -> None:
    origin = Origin()
    async with front(origin) as proxy:
        assert (await proxy.ask(READY)).status == 200
        assert [request.target for request in origin.requests] == ["/balancer/ready?now"]
