"""What names mean: hosts file, A and AAAA, SRV, and how long it holds."""

from pathlib import Path

import pytest

from balancer.net.resolve import Asking, Endpoint, NotResolved, look_up, look_up_service
from tests.support.names import NameServer, name_server

NO_HOSTS = Path("/nonexistent")


def asking(server: NameServer, family: str = "auto", timeout: float = 2.0) -> Asking:
    return Asking((("127.0.0.1", server.port),), timeout, family)


async def hosts_of(server: NameServer, name: str, family: str = "auto") -> list[str]:
    answer = await look_up(name, 80, asking(server, family), NO_HOSTS)
    return [endpoint.host for endpoint in answer.endpoints]


async def test_each_address_is_an_endpoint_and_the_shortest_time_counts() -> None:
    async with name_server() as server:
        server.records["app.test."] = ["10.0.0.2", "10.0.0.1"]
        server.aliases["www.test."] = "app.test."
        server.ttl = 7
        found = await look_up("www.test", 8000, asking(server), NO_HOSTS)
        assert found.endpoints == (Endpoint("10.0.0.1", 8000), Endpoint("10.0.0.2", 8000))
        assert found.ttl == 7  # the alias would hold for 1000


@pytest.mark.parametrize(
    ("family", "expected"),
    [
        ("auto", ["10.0.0.1"]),
        ("ipv4", ["10.0.0.1"]),
        ("ipv6", ["fd00::1"]),
        ("all", ["10.0.0.1", "fd00::1"]),
    ],
)
async def test_two_kinds_of_address_are_two_ways_to_one_machine(family: str, expected: list[str]) -> None:
    async with name_server() as server:
        server.records["app.test."] = ["10.0.0.1", "fd00::1"]
        assert await hosts_of(server, "app.test", family) == expected
        server.records["app.test."] = ["fd00::1"]
        if family == "auto":
            assert await hosts_of(server, "app.test") == ["fd00::1"]


async def test_a_service_has_ports_weights_and_backups() -> None:
    async with name_server() as server:
        server.records["a.test."] = ["10.0.0.1", "10.0.0.2"]
        server.records["b.test."] = ["10.0.0.3"]
        server.records["_http._tcp.app.test."] = [
            "10 30 8001 a.test.",
            "10 10 8002 b.test.",
            "20 0 8003 b.test.",
            "10 10 8004 gone.test.",
        ]
        found = await look_up_service("_http._tcp.app.test", asking(server), NO_HOSTS)
        assert found.endpoints == (
            Endpoint("10.0.0.1", 8001, 3),
            Endpoint("10.0.0.2", 8001, 3),
            Endpoint("10.0.0.3", 8002, 1),
            Endpoint("10.0.0.3", 8003, 1, is_backup=True),
        )
        server.records["_http._tcp.app.test."] = ["0 0 0 ."]
        with pytest.raises(NotResolved, match="not offered"):
            await look_up_service("_http._tcp.app.test", asking(server), NO_HOSTS)


async def test_what_is_not_known_says_why() -> None:
    async with name_server() as server:
        with pytest.raises(NotResolved, match=r"nothing\.test does not exist"):
            await look_up("nothing.test", 80, asking(server), NO_HOSTS)
        server.records["empty.test."] = []
        with pytest.raises(NotResolved, match=r"empty\.test has no AAAA record"):
            await look_up("empty.test", 80, asking(server), NO_HOSTS)
        server.failing = True
        with pytest.raises(NotResolved, match="SERVFAIL"):
            await look_up("app.test", 80, asking(server), NO_HOSTS)
        server.is_silent = True
        with pytest.raises(NotResolved, match=r"no DNS server has answered within 0\.3 s"):
            await look_up("app.test", 80, asking(server, timeout=0.3), NO_HOSTS)


async def test_the_hosts_file_comes_first_and_is_read_each_time(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("10.1.1.1\tdb app.test # ours\n# 10.1.1.9 app.test\nnonsense app.test\n10.1.1.2 APP.TEST\n")
    async with name_server() as server:
        server.records["app.test."] = ["10.0.0.1"]
        found = await look_up("app.test", 80, asking(server), hosts)
        assert [endpoint.host for endpoint in found.endpoints] == ["10.1.1.1", "10.1.1.2"]
        assert not server.asked
        hosts.write_text("")
        assert [e.host for e in (await look_up("app.test", 80, asking(server), hosts)).endpoints] == ["10.0.0.1"]


async def test_localhost_is_this_machine_whatever_dns_says() -> None:
    async with name_server() as server:
        server.records["localhost."] = ["10.0.0.1"]
        for name in ("localhost", "api.localhost"):
            assert await hosts_of(server, name) == ["127.0.0.1", "::1"]
        assert not server.asked
