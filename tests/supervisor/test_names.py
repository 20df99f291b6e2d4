"""Names of groups: a backend for each address, coming and going with the records, kept when DNS is down."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing

from balancer.settings.load import read
from balancer.supervisor import names
from balancer.supervisor.names import Names
from balancer.supervisor.slot import Slot
from tests.supervisor.ground import PATIENCE, Ground, app, ground
from tests.support.names import NameServer, name_server
from tests.support.ports import free_port

HEAD = '[listen.web]\naddress = "127.0.0.1:1"\n'
QUICK = '[pool.web.health]\ninterval = "50ms"\n[pool.web.ready]\ntimeout = "2s"\n'


def settings_for(server: NameServer, groups: str, head: str = "") -> str:
    """A file with these groups, whose names that server knows."""
    return HEAD + f'[dns]\nservers = ["127.0.0.1:{server.port}"]\ntimeout = "300ms"\n' + head + groups + QUICK


def group(address: str, more: str = "") -> str:
    return f'[[pool.web.group]]\naddress = "{address}"\n{more}\n'


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "SHORTEST", 0.1)
    monkeypatch.setattr(names, "FIRST_RETRY", 0.1)


class Scene:
    """Names that are followed, and servers on addresses of 127.0.0.0/8 that share one port."""

    def __init__(self, g: Ground, server: NameServer, nursery: trio.Nursery) -> None:
        self.g = g
        self.server = server
        self.port = free_port()
        self.names = Names(g.fleet)
        self._nursery = nursery

    async def listen(self, host: str) -> None:
        async def serve(stream: trio.SocketStream) -> None:
            await stream.aclose()

        listeners = await trio.open_tcp_listeners(self.port, host=host)
        self._nursery.start_soon(trio.serve_listeners, serve, listeners)

    def use(self, text: str) -> None:
        """Make this file the one in force."""
        self.g.truth.settings = read(text, on_this_machine=False, environ={})
        self.g.truth.touch()

    def slots(self) -> list[Slot]:
        return [slot for slot in self.g.truth.slots.get("web", []) if slot.wanted]

    def taking(self) -> dict[str, str]:
        """Address → slot, of those that take requests."""
        found = self.g.truth.backends.values()
        return {b.address.partition(":")[0]: b.id.name for b in found if b.takes_requests}

    async def until_taking(self, *hosts: str) -> dict[str, str]:
        await self.g.until(lambda: set(self.taking()) == set(hosts))
        return self.taking()


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    async with name_server() as server, ground() as g, trio.open_nursery() as nursery:
        server.ttl = 0
        made = Scene(g, server, nursery)
        nursery.start_soon(made.names.run)
        await trio.testing.wait_all_tasks_blocked()
        yield made
        nursery.cancel_scope.cancel()


async def test_each_address_is_a_backend_that_comes_and_goes_with_the_records() -> None:
    async with scene() as s:
        for host in ("127.0.0.2", "127.0.0.3", "127.0.0.4"):
            await s.listen(host)
        s.server.records["app.test."] = ["127.0.0.2", "127.0.0.3"]
        s.use(settings_for(s.server, group(f"app.test:{s.port}", "weight = 5")))
        assert await s.until_taking("127.0.0.2", "127.0.0.3") == {"127.0.0.2": "web-0", "127.0.0.3": "web-1"}
        assert {slot.care.weight for slot in s.slots()} == {5}
        assert {b.authority for b in s.g.truth.backends.values()} == {f"app.test:{s.port}"}
        s.server.records["app.test."] = ["127.0.0.3", "127.0.0.4"]
        assert await s.until_taking("127.0.0.3", "127.0.0.4") == {"127.0.0.3": "web-1", "127.0.0.4": "web-2"}
        # The number that is free again is the next one's.
        await s.g.until(lambda: len(s.g.truth.slots["web"]) == 2)
        s.server.records["app.test."] = ["127.0.0.2", "127.0.0.3", "127.0.0.4"]
        assert (await s.until_taking("127.0.0.2", "127.0.0.3", "127.0.0.4"))["127.0.0.2"] == "web-0"


async def test_the_old_address_serves_until_the_new_one_does() -> None:
    async with scene() as s:
        await s.listen("127.0.0.2")
        s.server.records["app.test."] = ["127.0.0.2"]
        s.use(settings_for(s.server, group(f"app.test:{s.port}")))
        await s.until_taking("127.0.0.2")
        s.server.records["app.test."] = ["127.0.0.3"]
        await s.g.event("name resolved", 2)
        await trio.sleep(0.2)  # probes of the new one fail meanwhile
        assert set(s.taking()) == {"127.0.0.2"}
        await s.listen("127.0.0.3")
        await s.until_taking("127.0.0.3")


async def test_what_is_known_is_kept_when_nothing_is_known() -> None:
    async with scene() as s:
        await s.listen("127.0.0.2")
        s.server.records["app.test."] = ["127.0.0.2"]
        s.use(settings_for(s.server, group(f"app.test:{s.port}")))
        await s.until_taking("127.0.0.2")
        s.server.failing = True
        failed = await s.g.event("name not resolved")
        assert failed.detail["kept"] == 1
        assert await s.names.settled("web") == "", "a reload has nothing to do with it"
        s.server.failing = False
        s.server.records.clear()
        gone = await s.g.event("name not resolved", 2)
        assert gone.detail["reason"] == "app.test does not exist"
        assert set(s.taking()) == {"127.0.0.2"}


async def test_a_name_that_leads_nowhere_yet_is_said_and_tried_again() -> None:
    async with scene() as s:
        await s.listen("127.0.0.2")
        s.server.is_silent = True
        s.use(settings_for(s.server, group(f"app.test:{s.port}")))
        assert s.g.truth.snapshot().pools[0].expects, "the first answer may bring a backend"
        await s.g.event("name not resolved")
        assert not s.g.truth.snapshot().pools[0].expects
        assert s.g.truth.unready() == [
            "pool web: has no backends; app.test: no DNS server has answered within 0.3 s",
        ]
        s.server.records["app.test."] = ["127.0.0.2"]
        s.server.is_silent = False
        await s.until_taking("127.0.0.2")


async def test_a_service_brings_ports_weights_and_backups() -> None:
    async with scene() as s:
        s.server.records["a.test."] = ["127.0.0.2"]
        s.server.records["b.test."] = ["127.0.0.3"]
        s.server.records["_http._tcp.app.test."] = ["1 30 8001 a.test.", "1 10 8002 b.test.", "2 0 8003 b.test."]
        s.use(settings_for(s.server, group("srv:_http._tcp.app.test", "weight = 2")))
        await s.g.until(lambda: len(s.slots()) == 3)
        assert [(slot.launch.address, slot.care.weight, slot.care.backup) for slot in s.slots()] == [
            (("127.0.0.2", 8001), 6, False),
            (("127.0.0.3", 8002), 2, False),
            (("127.0.0.3", 8003), 2, True),
        ]


async def test_localhost_is_the_one_of_its_addresses_that_answers() -> None:
    async with scene() as s:

        async def serve(stream: trio.SocketStream) -> None:
            await stream.aclose()

        listeners = await trio.open_tcp_listeners(s.port, host="::1")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, serve, listeners)
            s.use(settings_for(s.server, group(f"localhost:{s.port}")))
            await s.g.event("healthy")
            assert [slot.launch.address for slot in s.slots()] == [("::1", s.port)]
            nursery.cancel_scope.cancel()


async def test_numbers_that_the_file_needs_are_given_up() -> None:
    async with scene() as s:
        await s.listen("127.0.0.2")
        s.server.records["app.test."] = ["127.0.0.2"]
        s.server.ttl = 100
        s.use(settings_for(s.server, group(f"app.test:{s.port}")))
        assert await s.until_taking("127.0.0.2") == {"127.0.0.2": "web-0"}
        spawned = s.g.add(app(), index=0)
        assert spawned.name == "web-0"
        # Two series of one name would be refused by whoever scrapes them.
        assert s.g.truth.shown_slots("web") == [spawned]
        await s.g.until(lambda: s.taking().get("127.0.0.2") == "web-1")
        await s.g.until(lambda: [slot.index for slot in s.g.truth.slots["web"]] == [0, 1])
        assert [slot.is_found for slot in s.slots()] == [False, True]


async def test_a_reload_changes_names_and_what_is_said_of_them() -> None:
    async with scene() as s:
        for host in ("127.0.0.2", "127.0.0.3"):
            await s.listen(host)
        s.server.records["old.test."] = ["127.0.0.2"]
        s.server.records["new.test."] = ["127.0.0.3"]
        s.use(settings_for(s.server, group(f"old.test:{s.port}")))
        await s.until_taking("127.0.0.2")
        s.use(settings_for(s.server, group(f"old.test:{s.port}", 'weight = 7\nname = "blue"')))
        await s.g.until(lambda: [b.weight for b in s.g.truth.backends.values()] == [7])
        assert [b.group for b in s.g.truth.backends.values()] == ["blue"]
        s.use(settings_for(s.server, group(f"new.test:{s.port}")))
        with trio.fail_after(PATIENCE):
            assert await s.names.settled("web") == ""
        await s.until_taking("127.0.0.3")
        await s.g.until(lambda: len(s.g.truth.slots["web"]) == 1)
        s.use(settings_for(s.server, group(f"wrong.test:{s.port}") + group(f"new.test:{s.port}")))
        with trio.fail_after(PATIENCE):
            assert await s.names.settled("web") == "wrong.test does not exist"
        assert set(s.taking()) == {"127.0.0.3"}


async def test_another_way_to_speak_to_it_is_another_backend() -> None:
    async with scene() as s:
        await s.listen("127.0.0.2")
        s.server.records["app.test."] = ["127.0.0.2"]
        s.server.ttl = 100
        plain = group(f"app.test:{s.port}")
        s.use(settings_for(s.server, plain))
        assert await s.until_taking("127.0.0.2") == {"127.0.0.2": "web-0"}
        s.use(settings_for(s.server, plain + "[pool.web.group.tls]\nverify = false\n"))
        await s.g.until(lambda: [slot.name for slot in s.slots()] == ["web-0", "web-1"])
        (fresh,) = (slot for slot in s.slots() if slot.name == "web-1")
        await s.g.until(lambda: fresh.current is not None)
        assert fresh.current is not None
        assert fresh.current.backend.tls
        assert s.taking() == {"127.0.0.2": "web-0"}, "nobody speaks TLS there"
