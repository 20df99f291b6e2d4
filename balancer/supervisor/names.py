"""Groups whose address is a name: each address that the name has is a backend, added and removed as the name changes.

What was known last is kept while nothing is known: a DNS server that is down, or a record that is gone, takes no backend out of
rotation; probes do that. Numbers of these slots follow on those of the pool's other ones.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Final

import trio

from balancer.net.resolve import Answer, Asking, Endpoint, NotResolved, is_localhost, look_up, look_up_service
from balancer.settings.address import Address
from balancer.settings.model import Dns
from balancer.settings.model_pool import MAX_WEIGHT, Group, Pool
from balancer.supervisor.fleet import Fleet
from balancer.supervisor.probe import ProbeFailed, probe
from balancer.supervisor.slot import Slot
from balancer.supervisor.spec import Care, Launch
from balancer.supervisor.wanted import care_of

SHORTEST: Final = 1.0  # seconds between two look-ups, whatever the records say
LONGEST: Final = 300.0
FIRST_RETRY: Final = 1.0  # after a failure; doubles
LAST_RETRY: Final = 30.0

Key = tuple[
    str, str, int
]  # pool, address as the file has it, how many of the pool's groups before it have the same one


class Names:
    """Follows every name of the settings in force."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._truth = fleet.around.truth
        self._followers: dict[Key, Follower] = {}
        self._seen: tuple[object, object] = (None, None)  # the settings that were looked at last
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Until `stop`."""
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                while True:
                    self._sync()
                    await self._truth.changes.wait()
        self._nursery = None

    def stop(self) -> None:
        """Follow no more; what was found stays where it is."""
        self._scope.cancel()

    async def settled(self, pool: str) -> str:
        """Until it has shown whether the names that are new in this pool lead anywhere; why not, if one does not."""
        self._sync()
        for follower in [f for f in self._followers.values() if f.pool == pool and f.is_new]:
            await follower.arrive()
            if follower.trouble:
                return follower.trouble
        return ""

    def _sync(self) -> None:
        """Follow what the settings name now, and nothing else."""
        if self._nursery is None:
            return
        for known in self._followers.values():
            known.give_way()
        seen = (self._truth.settings, self._truth.extra)
        if seen[0] is self._seen[0] and seen[1] is self._seen[1]:
            return
        is_first, self._seen = self._seen == (None, None), seen
        wanted = {key: (pool, group) for key, pool, group in _named(self._truth.pools)}
        for key, (pool, group) in wanted.items():
            follower = self._followers.get(key)
            if follower is None:
                follower = self._followers[key] = Follower(self._fleet, key, pool, group)
                follower.is_new = not is_first
                self._nursery.start_soon(follower.run, name=f"name {key[1]}")
            follower.update(pool, group, self._truth.settings.dns)
        for key in self._followers.keys() - wanted.keys():
            past = self._followers.pop(key)
            if key[0] in self._truth.pools:
                self._nursery.start_soon(self._drop, past)
            else:
                past.end()  # who removes the pool removes its slots

    async def _drop(self, follower: "Follower") -> None:
        """What came in its place shall serve before its backends leave."""
        with trio.move_on_after(follower.patience):
            await self.settled(follower.pool)
        follower.end()
        follower.remove_all()


class Follower:
    """One name of one group: what is known of it, and the slots that follow from that."""

    def __init__(self, fleet: Fleet, key: Key, pool: Pool, group: Group) -> None:
        assert group.address is not None
        self.pool = key[0]
        self.trouble = ""
        self.is_new = True  # a reload brought it, and has not seen yet whether it leads anywhere
        self._fleet = fleet
        self._around = fleet.around
        self._address: Address = group.address
        self._settings = pool
        self._group = group
        self._dns = Dns()
        self._slots: dict[tuple[str, int], Slot] = {}
        self._endpoints: dict[tuple[str, int], Endpoint] = {}
        self._leaving: list[Slot] = []
        self._answered = trio.Event()
        self._kicked = trio.Event()
        self._scope = trio.CancelScope()
        self._nursery: trio.Nursery | None = None

    @property
    def patience(self) -> float:
        """Seconds that a new backend gets until it takes requests."""
        return self._settings.ready.timeout

    async def run(self) -> None:
        """Look up, take over, wait; until `end`."""
        retry = FIRST_RETRY
        with self._scope:
            async with trio.open_nursery() as self._nursery:
                while True:
                    try:
                        answer = await self._ask()
                    except NotResolved as error:
                        self._fail(str(error))
                        pause, retry = retry, min(retry * 2, LAST_RETRY)
                    except Exception as error:
                        self._around.bug(f"name {self._address}", error)
                        pause = LAST_RETRY
                    else:
                        self._take(answer.endpoints)
                        pause, retry = min(max(answer.ttl, SHORTEST), LONGEST), FIRST_RETRY
                    self._answered.set()
                    with trio.move_on_after(pause):
                        await self._kicked.wait()
                    self._kicked = trio.Event()

    def end(self) -> None:
        """Follow it no more; its slots stay."""
        self._scope.cancel()
        self._around.truth.names.pop((self.pool, str(self._address)), None)

    def remove_all(self) -> None:
        """Drain and forget its backends."""
        for slot in (*self._slots.values(), *self._leaving):
            self._fleet.begin_removing(slot, f"{self._address} is no longer in the file")
        self._slots.clear()

    def update(self, pool: Pool, group: Group, dns: Dns) -> None:
        """What the file says now applies at once."""
        if dns != self._dns:
            self._kicked.set()
        self._settings, self._group, self._dns = pool, group, dns
        for key, slot in self._slots.items():
            if slot.care.probe.tls != care_of(pool, group).probe.tls:
                slot.is_displaced = True  # its connections are of another kind: one more beside it, then it goes
            else:
                self._adopt(slot, self._endpoints[key])
        self.give_way()

    def give_way(self) -> None:
        """Give up the numbers that others need, and what cannot be adopted."""
        if any(slot.is_displaced for slot in self._slots.values()):
            self._take(list(self._endpoints.values()))

    async def arrive(self) -> None:
        """Until the name has been answered, and one of its backends takes requests or none will."""
        with trio.move_on_after(self.patience) as patience:
            await self._answered.wait()
            if self._slots:
                changes = self._around.truth.changes
                await changes.until(lambda: any(_takes_requests(slot) for slot in self._slots.values()))
                self.trouble = ""
        if patience.cancelled_caught:
            self.trouble = f"no backend of {self._address} takes requests after {self.patience:g} s"
        self.is_new = False

    async def _ask(self) -> Answer:
        address, dns = self._address, self._dns
        servers = tuple((server.host, server.port) for server in dns.servers)
        asking = Asking(servers, dns.timeout, dns.family)
        if address.is_service:
            return await look_up_service(address.host, asking)
        answer = await look_up(address.host, address.port, asking)
        if is_localhost(address.host) and len(answer.endpoints) > 1:
            return answer._replace(endpoints=(await self._answering(answer.endpoints),))
        return answer

    async def _answering(self, endpoints: tuple[Endpoint, ...]) -> Endpoint:
        """The one of them that a server listens on, the present one first."""
        ordered = sorted(endpoints, key=lambda one: (one.host, one.port) not in self._slots)
        spec = replace(care_of(self._settings, self._group).probe, path="")
        for endpoint in ordered:
            try:
                await probe(endpoint.host, endpoint.port, spec)
            except ProbeFailed:
                continue
            return endpoint
        return ordered[0]

    def _fail(self, why: str) -> None:
        if why != self.trouble:
            kept = len(self._slots)
            self._around.events.record("name not resolved", self.pool, reason=why, kept=kept)
        self.trouble = why
        self._around.truth.names[self.pool, str(self._address)] = why
        self._around.truth.touch()

    def _take(self, endpoints: Iterable[Endpoint]) -> None:
        """Make these the backends: new ones start, changed ones are adopted, the others leave."""
        known = {(endpoint.host, endpoint.port): endpoint for endpoint in endpoints}
        self.trouble = ""
        names, name = self._around.truth.names, (self.pool, str(self._address))
        is_news = known.keys() != self._slots.keys() or names.get(name) != ""
        if is_news:
            self._around.events.record(
                "name resolved", self.pool, name=str(self._address), addresses=[_shown(one) for one in known]
            )
        names[name] = ""
        before, self._endpoints = self._endpoints, known
        gone = [slot for key, slot in self._slots.items() if key not in known or slot.is_displaced]
        self._slots = {key: slot for key, slot in self._slots.items() if slot not in gone}
        added = []
        for key, endpoint in known.items():
            if key in self._slots and endpoint != before.get(key):
                self._adopt(self._slots[key], endpoint)
            elif key not in self._slots:
                self._slots[key] = self._add(endpoint)
                added.append(self._slots[key])
        if gone and self._nursery is not None:
            self._leaving += gone
            self._nursery.start_soon(self._replace, gone, added)
        if is_news:
            self._around.truth.touch()

    def _add(self, endpoint: Endpoint) -> Slot:
        launch, care = self._wanted(endpoint)
        taken = {slot.index for slot in self._around.truth.slots.get(self.pool, ())}
        number = self._settings.backend_count
        while number in taken:
            number += 1
        return self._fleet.add(self.pool, number, launch, care, is_found=True)

    def _adopt(self, slot: Slot, endpoint: Endpoint) -> None:
        slot.launch, slot.care = self._wanted(endpoint)
        if slot.current is not None:
            slot.current.care = slot.care
            backend = slot.current.backend
            backend.group, backend.weight, backend.backup = slot.launch.group, slot.care.weight, slot.care.backup
        self._around.truth.touch()

    async def _replace(self, gone: list[Slot], added: list[Slot]) -> None:
        """Let go of what the name no longer means, once what it means instead takes requests."""
        if added:
            with trio.move_on_after(self.patience):
                await self._around.truth.changes.until(lambda: any(map(_takes_requests, added)))
        for slot in gone:
            self._fleet.begin_removing(slot, f"{self._address} is another address now")
            self._leaving.remove(slot)

    def _wanted(self, endpoint: Endpoint) -> tuple[Launch, Care]:
        address, care = self._address, care_of(self._settings, self._group)
        launch = Launch(
            group=self._group.name,
            address=(endpoint.host, endpoint.port),
            authority="" if address.is_service else str(address),
        )
        weight = min(care.weight * endpoint.weight, MAX_WEIGHT)
        return launch, replace(care, weight=weight, backup=care.backup or endpoint.is_backup)


def _named(pools: Mapping[str, Pool]) -> Iterator[tuple[Key, Pool, Group]]:
    for name, pool in pools.items():
        seen: Counter[str] = Counter()
        for group in pool.groups:
            if group.is_named:
                address = str(group.address)
                yield (name, address, seen[address]), pool, group
                seen[address] += 1


def _takes_requests(slot: Slot) -> bool:
    return slot.current is not None and slot.current.backend.takes_requests


def _shown(key: tuple[str, int]) -> str:
    host, port = key
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
