"""One look at everything, several times a second: deadlines, idle connections, suspicions, the access log.

A deadline is a number on a wire that means something only while a task waits on it. Holding it by a cancel scope would cost
each request a fifth of its time.
"""

from time import monotonic
from typing import Final

import trio

from balancer.errors import Fault
from balancer.net.splice import lower_low_water
from balancer.net.wire import Wire
from balancer.proxy.backend import Backend
from balancer.proxy.farewell import say_farewell
from balancer.proxy.service import Service
from balancer.telemetry.table import TICK

PERIOD: Final = 0.1  # seconds, and so how late a deadline may be
_TURNS: Final = 3  # of trio's loop: the poller's, its readers', and one to spare
_MANY: Final = 4096  # wires; above it a sweep costs enough to be done at half the rate


async def sweep(service: Service) -> None:
    """Run until cancelled."""
    view = service.view
    tick = view.table.proxy_base(view.proxy) + TICK
    wires = service.poller.wires
    last = monotonic()
    while True:
        await trio.sleep(PERIOD if len(wires) < _MANY else PERIOD * 2)
        # Who was woken late, because the machine gave this process no turn, finds bytes that came in time beside deadlines
        # that have passed: first the poller tells of them, then their readers take them.
        for _ in range(_TURNS):
            await trio.lowlevel.checkpoint()
        now = monotonic()
        service.cells[tick] = int(now * 1e9)
        for wire in list(wires.values()):
            _look_at(wire, now)
        draining: list[Backend] = []
        for pool in view.pools.values():
            pool.tick(now)
            for backend in pool.backends:
                oldest = now - backend.habits.kept_for(pool.picture.keep_alive_timeout)
                while backend.idle and backend.idle[0].idle_since < oldest:
                    backend.idle[0].expire()
                if backend.draining and backend.drain_until:
                    draining.append(backend)
        if draining:
            say_farewell(service, draining, now, now - last)
        last = now
        if service.access is not None:
            service.access.flush()


def _look_at(wire: Wire, now: float) -> None:
    if wire.reader is not None:
        if now > wire.read_deadline:
            wire.interrupt(Fault(wire.side, wire.late))
        elif wire.lowat:
            # It did not deliver a good piece within a sweep: from now on each byte counts.
            lower_low_water(wire)
    # Both may wait: a response is awaited while its request still goes up.
    if wire.writer is not None and now > wire.write_deadline:
        wire.interrupt(Fault(wire.side, wire.late_write))
