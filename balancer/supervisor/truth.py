"""The one place that knows the pools, their slots and their backends; from it come the numbered snapshots.

Everything here is plain: whoever changes something says `touch`, and who publishes or waits hears of it.
"""

import secrets
from hashlib import sha256
from pathlib import Path

from balancer.pool.backend import Backend, BackendId
from balancer.pool.ejection import needs_all
from balancer.pool.lifecycle import Health, Intent, Phase
from balancer.pool.snapshot import (
    BackendPicture,
    GroupPicture,
    LimitPicture,
    ListenerPicture,
    PoolPicture,
    ProxyPicture,
    RoutePicture,
    Snapshot,
)
from balancer.settings.model import Limit, Settings
from balancer.settings.model_pool import Pool
from balancer.supervisor.attribution import Attribution
from balancer.supervisor.clock import now
from balancer.supervisor.slot import Slot
from balancer.supervisor.waiting import Changes
from balancer.telemetry.ledger import Ledger


class Truth:
    """Settings in force, slots per pool in order, every backend that lives."""

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings = settings
        self.ledger = ledger
        self.slots: dict[str, list[Slot]] = {name: [] for name in settings.pool}
        self.extra: dict[str, Pool] = {}  # a reload's pools that nothing is routed to yet, or any more
        self.backends: dict[BackendId, Backend] = {}
        self.names: dict[tuple[str, str], str] = {}  # (pool, name) → why nothing is known of it, "" if something is
        self.number = 0  # of the last snapshot that was made
        self.is_leaving = False  # told to stop, and gives who is in front of it time to notice
        self.is_dirty = True
        self.changes = Changes()
        self.attribution = Attribution()
        self._secret = secrets.token_hex(32)

    @property
    def pools(self) -> dict[str, Pool]:
        """Every pool that has slots or should have."""
        return {**self.extra, **self.settings.pool}

    def touch(self) -> None:
        """Something that a snapshot, the status or a waiter may care about has changed."""
        self.is_dirty = True
        self.changes.fire()

    def add(self, backend: Backend) -> None:
        """A new generation exists."""
        self.backends[backend.id] = backend
        self.touch()

    def remove(self, backend: Backend) -> None:
        """It is no more."""
        self.backends.pop(backend.id, None)
        self.touch()

    def all_slots(self) -> list[Slot]:
        """Every slot, pool by pool."""
        return [slot for slots in self.slots.values() for slot in slots]

    def shown_slots(self, pool: str) -> list[Slot]:
        """One for each name, in order: of two that share one, the one that stays."""
        by_name = {s.name: s for s in sorted(self.slots.get(pool, ()), key=lambda s: (s.wanted, not s.is_displaced))}
        return sorted(by_name.values(), key=lambda s: s.index)

    def unready(self) -> list[str]:
        """A line for each pool that is routed to and has no backend that takes requests."""
        taking = {backend.pool for backend in self.backends.values() if backend.takes_requests}
        return [self._why_not(pool) for pool in sorted(self.settings.reached_pools) if pool not in taking]

    def snapshot(self) -> Snapshot:
        """The picture as it is now, under the next number."""
        self.number += 1
        self.is_dirty = False
        settings, ledger = self.settings, self.ledger
        return Snapshot(
            number=self.number,
            proxy=_proxy_picture(settings, self.is_leaving),
            listeners=tuple(
                ListenerPicture(
                    name=name,
                    row=ledger.listener(name),
                    pool=settings.default_pool(name),
                    trusted_proxies=listen.trusted_proxies,
                    proxy_protocol=listen.proxy_protocol,
                    redirect=listen.redirect,
                    ready_path=listen.ready_path,
                    redirect_port=settings.https_port,
                    tls=listen.tls is not None,
                    handshake_timeout=listen.tls.handshake_timeout if listen.tls else 0.0,
                    hsts=int(listen.tls.hsts) if listen.tls else 0,
                    limit=_limit_picture(listen.limit),
                    mode=settings.mode(name),
                )
                for name, listen in settings.listen.items()
            ),
            routes=tuple(RoutePicture(r.host, r.path, r.pool, r.strip_prefix) for r in settings.route),
            pools=tuple(self._pool_picture(name, pool) for name, pool in self.pools.items()),
        )

    def _pool_picture(self, name: str, pool: Pool) -> PoolPicture:
        # In slot order, the older generation first.
        order = {slot.name: slot.index for slot in self.slots.get(name, ())}
        shown = sorted(
            (b for b in self.backends.values() if b.pool == name and b.phase is Phase.RUNNING),
            key=lambda b: (order.get(b.id.name, -1), b.id.generation),
        )
        taking = sum(b.takes_requests for b in shown)
        everybody = needs_all(len(shown), taking, pool.eject.panic)
        waits = self._waits(name)
        soon = [wait for wait in waits if wait <= pool.queue_timeout]
        return PoolPicture(
            name=name,
            row=self.ledger.pool(name),
            policy=pool.policy,
            hash_on=pool.hash_on,
            groups=tuple(
                GroupPicture(group.name, group.share, group.match_header, group.match_cookie)
                for group in pool.groups
                if group.share or group.match_header or group.match_cookie
            ),
            sticky_cookie=pool.sticky_cookie,
            sticky_key=self._sticky_key(pool),
            sticky_attributes=pool.sticky_attributes,
            retry_budget=pool.retry_budget,
            eject_failures=pool.eject.failures,
            quarantine=self.attribution.quarantined(name) if pool.quarantine.after else (),
            quarantine_max=pool.quarantine.max,
            quarantine_time=pool.quarantine.time,
            connect_timeout=pool.connect_timeout,
            response_timeout=pool.response_timeout,
            retries=pool.retries,
            concurrency=pool.concurrency,
            queue=pool.queue,
            queue_timeout=pool.queue_timeout,
            keep_alive=pool.keep_alive,
            keep_alive_timeout=pool.keep_alive_timeout,
            slow_start=pool.slow_start,
            pass_host=pool.pass_host,
            backend_header=pool.backend_header,
            expects=bool(soon),
            retry_after=round(min(waits), 3) if waits else 0.0,
            backends=tuple(
                BackendPicture(
                    name=b.id.name,
                    generation=b.id.generation,
                    host=b.host,
                    port=b.port,
                    row=b.row,
                    weight=b.weight,
                    backup=b.backup,
                    takes_requests=b.takes_requests or (everybody and b.would_take_requests),
                    draining=b.intent is Intent.DRAIN,
                    since=b.since if b.is_spawned else 0.0,
                    group=b.group,
                    tls=b.tls,
                    authority=b.authority,
                    drain_until=b.drain_until if b.intent is Intent.DRAIN else 0.0,
                )
                for b in shown
            ),
        )

    def _sticky_key(self, pool: Pool) -> str:
        """Hexadecimal; of the file if there is one, so that cookies outlive the balancer, else this supervisor's own."""
        if not pool.sticky_cookie:
            return ""
        if not pool.sticky_key_file:
            return self._secret
        try:
            return sha256(Path(pool.sticky_key_file).read_bytes()).hexdigest()
        except OSError:
            return self._secret  # it was readable when the file was checked; sessions are moved, not lost

    def _waits(self, pool: str) -> list[float]:
        """Seconds until backends of this pool may take requests, of those that are to be expected."""
        instant = now()
        waits = [slot.seconds_to_ready(instant) for slot in self.slots.get(pool, ())]
        # Running and not judged yet: an address elsewhere before its first probe.
        unknown = any(
            b.pool == pool and b.phase is Phase.RUNNING and b.health is Health.UNKNOWN for b in self.backends.values()
        )
        groups = self.pools[pool].groups if pool in self.pools else ()
        unasked = any(group.is_named and (pool, str(group.address)) not in self.names for group in groups)
        # A proxy may serve before the slots are there: what waited since the address was bound.
        unmade = not waits and any(not group.is_named for group in groups)
        return [wait for wait in waits if wait is not None] + ([0.0] if unknown or unasked or unmade else [])

    def _why_not(self, pool: str) -> str:
        slots = self.slots.get(pool, [])
        if not slots:
            unknown = [why for (of, _), why in self.names.items() if of == pool and why]
            return f"pool {pool}: has no backends" + "".join(f"; {why}" for why in unknown)
        parts = []
        for slot in slots:
            backend = slot.current.backend if slot.current else None
            if backend is None or backend.phase is not Phase.RUNNING:
                parts.append(f"{slot.name} is {slot.phase}")
            elif backend.intent is Intent.DRAIN:
                parts.append(f"{slot.name} is draining")
            else:
                parts.append(f"{slot.name} is {backend.health}")
        more = f" and {len(parts) - 5} more" if len(parts) > 5 else ""
        return f"pool {pool}: no backend takes requests: {', '.join(parts[:5])}{more}"


def _proxy_picture(settings: Settings, is_leaving: bool) -> ProxyPicture:
    proxy, log = settings.proxy, settings.log
    return ProxyPicture(
        header_timeout=proxy.header_timeout,
        idle_timeout=proxy.idle_timeout,
        body_timeout=proxy.body_timeout,
        max_header_size=proxy.max_header_size,
        max_headers=proxy.max_headers,
        max_body_size=proxy.max_body_size,
        max_connections=proxy.max_connections,
        shutdown_timeout=proxy.shutdown_timeout,
        server_header=proxy.server_header,
        request_id_header=proxy.request_id_header,
        access=log.access,
        access_format=log.access_format,
        log_level=log.level,
        leaving=is_leaving,
    )


def _limit_picture(limit: Limit) -> LimitPicture | None:
    picture = LimitPicture(limit.connections, limit.requests, limit.burst, limit.allow, limit.deny)
    return None if picture == LimitPicture(burst=limit.burst) else picture
