"""One pool, as this proxy knows it: who may be chosen, whose turn it is, who waits.

State here changes only in plain functions, which nothing can interrupt. With `concurrency` the places on backends are shared with
the other proxies (`proxy/queue`), and changes to them are made under `Table.locked`.
"""

from collections.abc import Callable, Collection
from math import ceil
from time import monotonic
from typing import Final

from balancer.errors import Fault, Reason, Side
from balancer.pool.budget import RetryBudget
from balancer.pool.groups import GroupSplit, Rule
from balancer.pool.selection import POLICIES, Policy
from balancer.pool.snapshot import GroupPicture, PoolPicture
from balancer.proxy.affinity import NOTHING, Wish, Wishes
from balancer.proxy.backend import Backend
from balancer.proxy.blame import Blame
from balancer.proxy.queue import MAX_PROXIES, Grants, Place, Queue
from balancer.telemetry.table import IN_FLIGHT, Table

SUSPECT_FOR: Final = 1.0  # seconds without requests after a refused connection, unless the supervisor says more before
SUSPECT_AT_MOST: Final = 30.0
_RECENT: Final = 0.05  # what the latest answer counts for in the mean that `retry_after` goes by
_RAMP_STEPS: Final = 100  # weights are whole numbers; while one rises, all are counted in hundredths


class Pool:
    """One pool, as this proxy knows it: its settings (`picture`), its backends, whose turn it is, who waits."""

    __slots__ = (
        "_by_row",
        "_by_slot",
        "_cells",
        "_chosen_by",
        "_expected_at",
        "_grants",
        "_policy",
        "_proxy",
        "_ramping",
        "_refusals",
        "_seconds",
        "_split",
        "_table",
        "backends",
        "base",
        "blame",
        "budget",
        "candidates",
        "name",
        "picture",
        "quarantine",
        "queue",
        "wants_latency",
        "wishes",
    )

    def __init__(self, picture: PoolPicture, table: Table, proxy: int, grants: Grants) -> None:
        self.name = picture.name
        self.picture = picture
        self.base = table.pool_base(proxy, picture.row)
        self.queue = Queue(table, proxy, picture.row, grants)
        self.backends: list[Backend] = []  # in slot order
        self.candidates: tuple[Backend, ...] = ()
        self.blame = Blame()
        self.quarantine: frozenset[bytes] = frozenset()
        self._refusals = RetryBudget(picture.quarantine_max, monotonic())
        self.budget = RetryBudget(picture.retry_budget, monotonic())
        self._table = table
        self._cells = table.cells
        self._proxy = proxy
        self._grants = grants
        self._by_row: dict[int, Backend] = {}
        self._by_slot: dict[str, Backend] = {}
        self._ramping = False
        self._seconds = 0.0  # that an answer takes on a backend, of late; only known with a limit on concurrency
        self._expected_at = 0.0
        self._chosen_by: tuple[str, tuple[GroupPicture, ...]] = ("", ())
        self._split: GroupSplit[Backend] | None = None
        self._policy: Policy[Backend]
        self._configure(picture)
        grants.take[picture.row] = self._take

    def _configure(self, picture: PoolPicture) -> None:
        self.picture = picture
        self.budget.share = picture.retry_budget
        self.quarantine = frozenset(fingerprint.encode("latin-1") for fingerprint in picture.quarantine)
        self._refusals.share = picture.quarantine_max
        wishes = Wishes(picture)
        self.wishes = wishes if wishes.are_any else None
        self.wants_latency = picture.policy == "peak-ewma"
        if (picture.policy, picture.groups) != self._chosen_by:
            self._chosen_by = (picture.policy, picture.groups)
            # One policy serves one pool, and so never sees anything but Backends.
            make: Callable[[], Policy[Backend]] = POLICIES[picture.policy]  # type: ignore[assignment]
            rules = [Rule(g.name, g.share, g.header, g.cookie) for g in picture.groups]
            self._split = GroupSplit(rules, make) if rules else None
            self._policy = self._split or make()
            self._policy.offer(self.candidates)

    def update(self, picture: PoolPicture, backends: list[Backend]) -> None:
        """Take over a newer picture. Wakes who waits, if somebody takes requests again or nobody is expected to."""
        self._configure(picture)
        self._expected_at = monotonic() + picture.retry_after
        self.backends = backends
        self._by_row = {backend.row: backend for backend in backends}
        for backend in backends:
            if not backend.takes_requests:
                backend.suspect_until = 0.0  # confirmed: from here on the supervisor's word is enough
        self.offer()
        if not self.candidates and not self.may_wait():
            self.queue.interrupt(Fault(Side.BALANCER, Reason.NO_BACKEND))

    def offer(self) -> None:
        """Work out who may be chosen and with what weight, and let who waits try again if there is anybody."""
        now = monotonic()
        able = [b for b in self.backends if b.takes_requests and not b.draining and b.given_weight]
        sound = [b for b in able if b.suspect_until <= now]
        # When all are suspected, those that nobody is going to replace are tried all the same.
        usable = sound or [b for b in able if not b.is_spawned]
        self._weigh(usable, now)
        candidates = tuple([b for b in usable if not b.backup] or usable)
        self.candidates = candidates
        self._by_slot = {backend.name: backend for backend in candidates}
        self._policy.offer(candidates)
        if candidates and self.queue.places:
            if self.picture.concurrency:
                self.kick()
            else:
                self.queue.call_all()

    def claim(self, tried: Collection[Backend], wish: Wish = NOTHING) -> Backend | None:
        """Choose a backend and count the request on it; None when there is nobody (else) to choose, or no place free."""
        if self.picture.concurrency:
            with self._table.locked(self.picture.row):
                # Whoever waits was here before.
                return self._claim_place(tried, wish) if self.queue.is_empty else None
        backend = self._by_slot.get(wish.slot) if wish.slot else None
        if backend is None or backend in tried:
            backend = self._choose(tried, wish)
        if backend is not None:
            backend.in_flight += 1
            self._cells[backend.base + IN_FLIGHT] = backend.in_flight
        return backend

    def join(self, tried: Collection[Backend], deadline: float) -> Place | Backend:
        """A place in the line, or a backend, claimed, if one has come free in this moment. Raises Fault: the line is full."""
        picture = self.picture
        if len(self.queue) >= picture.queue:
            # Where there is no line at all, the reason is what one would have waited for: a place, or a backend.
            raise Fault(Side.BALANCER, Reason.QUEUE_FULL if picture.queue or self.candidates else Reason.NO_BACKEND)
        if not picture.concurrency:
            return self.queue.join(deadline, in_line=False)
        with self._table.locked(picture.row):
            backend = self._claim_place(tried, NOTHING) if self.queue.is_empty else None
            if backend is not None:
                return backend
            if self.queue.is_full:
                raise Fault(Side.BALANCER, Reason.QUEUE_FULL)
            return self.queue.join(deadline, in_line=True)

    def leave(self, place: Place) -> Backend | None:
        """Give up a place in the line; the backend that was granted with it, claimed, if one was."""
        if place.position < 0:
            self.queue.leave(place)
        else:
            with self._table.locked(self.picture.row):
                self.queue.leave(place)
        return self._by_row.get(place.granted)

    def release(self, backend: Backend) -> None:
        """End a claim; with a limit on concurrency the place goes to whoever waits longest, in whichever proxy."""
        backend.in_flight -= 1
        if not self.picture.concurrency:
            self._cells[backend.base + IN_FLIGHT] = backend.in_flight
            return
        with self._table.locked(self.picture.row):
            self._uncount(self._proxy, backend.row)
            self._hand_on()

    def kick(self) -> None:
        """Hand free places to who waits: backends have come, or a proxy has died that held some."""
        with self._table.locked(self.picture.row):
            self._hand_on()

    def tick(self, now: float) -> None:
        """What time brings: ends of suspicions, weights that rise, places that were overlooked, waits that are over."""
        ended = [b for b in self.backends if 0 < b.suspect_until <= now]
        for backend in ended:
            backend.suspect_until = 0.0
        if ended or self._ramping:
            self.offer()
        if self.queue.places:
            self.queue.interrupt(Fault(Side.BALANCER, Reason.QUEUE_TIMEOUT), before=now)
            if self.picture.concurrency:
                self.kick()

    def refuses(self, fingerprint: bytes) -> bool:
        """Whether a request of this kind is in quarantine, and its share of all requests allows to refuse this one."""
        self._refusals.deposit()
        return fingerprint in self.quarantine and self._refusals.withdraw(monotonic())

    def served(self, seconds: float) -> None:
        """A backend took so long for an answer, from the request sent to the last byte."""
        self._seconds += (seconds - self._seconds) * (_RECENT if self._seconds else 1.0)

    def retry_after(self) -> int:
        """Whole seconds after which one who is refused now may hope for a place; 0: nothing is known of that.

        The line's length times what an answer takes of late, over all places; before that, the time until a backend is back.
        """
        limit = self.picture.concurrency
        wait = 0.0 if self.candidates else max(0.0, self._expected_at - monotonic())
        if limit and self._seconds:
            places = limit * (len(self.candidates) or len(self.backends) or 1)
            wait += (len(self.queue) + 1) * self._seconds / places
        return ceil(wait)

    def may_wait(self) -> bool:
        """Whether a backend is expected to take requests before long."""
        return (
            bool(self.candidates) or self.picture.expects or any(b.suspect_until for b in self.backends if b.is_spawned)
        )

    def suspect(self, backend: Backend) -> None:
        """A connection was refused: the process is probably gone, which the supervisor is about to learn or to deny.

        The time without requests doubles with each refusal in a row.
        """
        if backend.takes_requests:
            backend.refusals += 1
            backend.suspect_until = monotonic() + min(SUSPECT_FOR * 2.0 ** (backend.refusals - 1), SUSPECT_AT_MOST)
            self.offer()

    def _weigh(self, backends: list[Backend], now: float) -> None:
        """Weights by age: from 0 to full over `slow_start` seconds of the *process's* life."""
        slow_start = self.picture.slow_start
        self._ramping = bool(slow_start) and any(b.is_spawned and now - b.since < slow_start for b in backends)
        for backend in backends:
            if not self._ramping:
                backend.weight = backend.given_weight
            else:
                age = (now - backend.since) / slow_start if backend.is_spawned else 1.0
                backend.weight = max(1, round(backend.given_weight * _RAMP_STEPS * min(1.0, age)))

    def _choose(self, tried: Collection[Backend], wish: Wish) -> Backend | None:
        if self._split is not None:
            return self._split.choose(tried, wish.key, wish.group)
        return self._policy.choose(tried, wish.key)

    # Under Table.locked.

    def _claim_place(self, tried: Collection[Backend], wish: Wish) -> Backend | None:
        limit = self.picture.concurrency
        backend = self._by_slot.get(wish.slot) if wish.slot else None
        if backend is None or backend in tried or backend.load >= limit:
            full = [b for b in self.candidates if b.load >= limit]
            backend = self._choose([*tried, *full] if full else tried, wish)
        if backend is not None:
            backend.in_flight += 1
            self._cells[backend.base + IN_FLIGHT] += 1
        return backend

    def _hand_on(self) -> None:
        limit = self.picture.concurrency
        while not self.queue.is_empty:
            full = [b for b in self.candidates if limit and b.load >= limit]
            backend = self._policy.choose(full)
            if backend is None:
                return
            ticket = self.queue.pop()
            proxy = ticket & (MAX_PROXIES - 1)
            self._cells[self._table.backend_base(proxy, backend.row) + IN_FLIGHT] += 1
            if proxy == self._proxy:
                place = self.queue.places.get(ticket)
                if place is not None:
                    backend.in_flight += 1
                    place.call(backend.row)
                    continue
            elif self._grants.give(ticket, self.picture.row, backend.row):
                continue
            self._uncount(proxy, backend.row)

    def _uncount(self, proxy: int, row: int) -> None:
        cell = self._table.backend_base(proxy, row) + IN_FLIGHT
        # Its gauges may have been cleared meanwhile, if it is the successor of a proxy that died.
        if self._cells[cell] > 0:
            self._cells[cell] -= 1

    def _take(self, ticket: int, row: int) -> None:
        """Another proxy has counted a place on that backend for one of our tickets."""
        place = self.queue.places.get(ticket)
        backend = self._by_row.get(row)
        if place is not None and backend is not None and backend in self.candidates:
            backend.in_flight += 1
            place.call(row)
            return
        with self._table.locked(self.picture.row):
            self._uncount(self._proxy, row)
            self._hand_on()
        if place is not None:
            place.call()
