"""Proxies as processes: told everything, waited for, replaced; with a double that speaks the channel and carries nothing."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio

from balancer.pool.backend import Backend, BackendId
from balancer.pool.lifecycle import Health, Intent, Phase
from balancer.supervisor import proxies, proxy
from balancer.supervisor.listeners import ListenerSockets
from balancer.supervisor.proxies import Proxies
from balancer.telemetry.table import IN_FLIGHT, TICK
from tests.supervisor.ground import PATIENCE, Ground, ground


class Stage:
    """Two fake proxies and the truth that they are told."""

    def __init__(self, g: Ground) -> None:
        self.g = g
        self.said: list[str] = []
        settings = g.truth.settings
        listen = settings.listen["web"]
        free = listen.address.__class__("127.0.0.1", 0)
        self.sockets = ListenerSockets({"web": listen.model_copy(update={"address": free})}, 2)
        self.proxies = Proxies(
            g.truth,
            g.truth.ledger.table,
            self.sockets,
            events=g.events,
            sink=g,
            observed=lambda *_: None,
            log=lambda level, event, fields: self.said.append(event),
            bug=g._bug,
            module="tests.supervisor.fake_proxy",
        )

    def backend(self, name: str = "web-0", generation: int = 1) -> Backend:
        """One that takes requests."""
        row = self.g.truth.ledger.open("web", name)
        made = Backend(BackendId(name, generation), "web", "", "127.0.0.1", 9000, row, 1, False, 0.0)
        made.phase, made.health = Phase.RUNNING, Health.HEALTHY
        self.g.truth.add(made)
        return made

    async def applied(self) -> None:
        """Until both work with the truth as it is."""
        with trio.fail_after(PATIENCE):
            await self.proxies.changes.until(
                lambda: all(self.proxies.is_ready(slot) for slot in (0, 1)) and not self.g.truth.is_dirty
            )
            await self.proxies.applied()


@asynccontextmanager
async def stage() -> AsyncIterator[Stage]:
    async with ground(proxies=2) as g:
        made = Stage(g)
        async with trio.open_nursery() as nursery:
            await nursery.start(made.proxies.run)
            yield made
            with trio.fail_after(PATIENCE):
                await made.proxies.stop(1.0)
            assert not made.proxies.live


async def test_a_drain_is_over_when_every_proxy_says_so() -> None:
    async with stage() as s:
        backend, mute = s.backend(), s.backend("mute-0")
        await s.applied()
        assert all(proxy.holds(backend.id) for proxy in s.proxies.live.values())
        backend.intent = mute.intent = Intent.DRAIN
        s.g.truth.touch()
        with trio.fail_after(PATIENCE):
            await s.proxies.drained(backend.id)
        with trio.move_on_after(0.1) as patience:
            await s.proxies.drained(mute.id)
        assert patience.cancelled_caught
        with trio.fail_after(PATIENCE):
            assert await s.proxies.holders(mute.id) == [{"method": "GET", "path": "/slow", "seconds": 2.5}] * 2
        # Proxies that die hold nothing any more.
        for proxy in list(s.proxies.live.values()):
            os.kill(proxy.process.pid, signal.SIGKILL)
        s.g.truth.remove(mute)
        with trio.fail_after(PATIENCE):
            await s.proxies.drained(mute.id)


async def test_one_that_is_put_back_is_in_use_again_whatever_comes_late() -> None:
    async with stage() as s:
        backend = s.backend()
        await s.applied()
        backend.drain(0.0)
        s.g.truth.touch()
        with trio.fail_after(PATIENCE):
            await s.proxies.drained(backend.id)
        backend.serve()
        s.g.truth.touch()
        await s.applied()
        live = s.proxies.live.values()
        assert all(proxy.holds(backend.id) for proxy in live)
        for proxy in live:
            s.proxies._hear(proxy, {"type": "drained", "backend": "web-0", "generation": 1})
        assert all(proxy.holds(backend.id) for proxy in live)
        backend.drain(0.0)
        s.g.truth.touch()
        with trio.fail_after(PATIENCE):
            await s.proxies.drained(backend.id)


async def test_what_changed_in_one_turn_is_one_snapshot() -> None:
    async with stage() as s:
        await s.applied()
        before = s.g.truth.number
        for number in range(50):
            s.backend(generation=number)
        await s.applied()
        assert s.g.truth.number == before + 1


async def test_a_killed_proxy_is_replaced_at_once_and_its_gauges_cleared() -> None:
    async with stage() as s:
        backend = s.backend()
        await s.applied()
        table = s.g.truth.ledger.table
        table.cells[table.backend_base(1, backend.row) + IN_FLIGHT] = 7
        old = s.proxies.live[1]
        os.kill(old.process.pid, signal.SIGKILL)
        with trio.fail_after(PATIENCE):
            await s.proxies.changes.until(lambda: s.proxies.live.get(1) not in (None, old))
        await s.applied()
        assert table.in_flight(backend.row) == 0
        assert s.proxies.replaced == [0, 1]
        assert s.proxies.live[1].holds(backend.id)
        died = s.g.kinds("proxy died")
        assert [(event.detail["proxy"], event.detail["how"]) for event in died] == [(1, "SIGKILL")]


async def test_one_that_has_just_ended_is_no_error_of_its_channel() -> None:
    async with stage() as s:
        await s.applied()
        proxy = s.proxies.live[0]
        os.kill(proxy.process.pid, signal.SIGKILL)
        os.waitid(os.P_PID, proxy.process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 -- before the loop learns of it
        s.backend()
        s.proxies._make_snapshot()
        s.proxies._offer(proxy)
        assert not [text for text in s.said if "does not take" in text]


async def test_before_there_are_slots_backends_are_expected() -> None:
    async with ground() as g:
        assert g.truth.snapshot().pools[0].expects, "who came since the address was bound is served now"


async def test_a_proxy_whose_loop_stands_still_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxy, "LOOK_INTERVAL", 0.02)
    async with stage() as s:
        table = s.g.truth.ledger.table

        async def turn() -> None:
            while True:
                table.cells[table.proxy_base(0) + TICK] += 1
                await trio.sleep(0.005)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(turn)
            stuck = await s.g.event("proxy stuck")
            assert stuck.detail["proxy"] == 1
            await s.g.event("proxy died")
            nursery.cancel_scope.cancel()
        monkeypatch.setattr(proxy, "STUCK_LOOKS", 1_000_000)


async def test_one_that_cannot_be_kept_alive_is_tried_less_and_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proxies, "LONGEST_PAUSE", 0.05)
    async with ground() as g:
        s = Stage(g)
        s.proxies.module = "tests.supervisor.no_such_module"
        async with trio.open_nursery() as nursery:
            await nursery.start(s.proxies.run)
            await g.event("proxy died", 5)
            with trio.fail_after(PATIENCE):
                await g.changes.until(lambda: "proxy 0 cannot be kept alive" in s.said)
                await s.proxies.stop(0.0)
        assert any("No module named" in line.text for line in g.lines)
