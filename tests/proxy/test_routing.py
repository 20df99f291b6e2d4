"""Which pool a request goes to."""

from balancer.pool.snapshot import RoutePicture
from tests.proxy.ends import Origin
from tests.proxy.harness import front


async def test_routes_by_host_and_path() -> None:
    web, api = Origin(), Origin()
    routes = (
        RoutePicture("api.example", "/v1/", "api", strip_prefix=True),
        RoutePicture("*.static.example", "", "api", strip_prefix=False),
        RoutePicture("", "/web", "web", strip_prefix=False),
    )
    async with front(web, routes=routes, listener={"pool": ""}) as proxy:
        await proxy.add_pool("api", api)
        cases = {
            (b"api.example", b"/v1/users?q=1"): (api, "/users?q=1"),
            (b"API.example:80", b"/v1"): (api, "/"),
            (b"api.example", b"/v10"): None,
            (b"a.b.static.example", b"/x"): (api, "/x"),
            (b"static.example", b"/x"): None,
            (b"anything", b"/web/x"): (web, "/web/x"),
            (b"anything", b"/other"): None,
        }
        for (host, target), expected in cases.items():
            answer = await proxy.ask(b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (target, host))
            if expected is None:
                assert answer.status == 404
                assert 'details="no_route"' in answer.one("proxy-status")
                assert not answer.has("connection")
            else:
                assert answer.status == 200
                assert expected[0].requests.pop().target == expected[1]
        assert not web.requests
        assert not api.requests
