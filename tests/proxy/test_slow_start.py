"""Slow start: the share of a young process follows its age, whatever else happens to it."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import pytest

from balancer.pool.snapshot import BackendPicture
from balancer.proxy import pool as pool_module
from balancer.proxy.backend import Backend
from balancer.proxy.pool import Pool
from balancer.proxy.queue import Grants
from balancer.telemetry.table import Table
from tests.proxy.harness import POOL, backend

RAMP = 20.0  # seconds
BORN = 1000.0  # when the young one started


class Clock:
    now = BORN

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(pool_module, "monotonic", made)
    return made


@pytest.fixture
def pool(clock: Clock) -> Iterator[Pool]:
    table = Table.create(1, listeners=1, pools=2, backends=4)
    grants = Grants.alone(0)
    yield Pool(POOL, table, 0, grants)
    grants.close()


def present(pool: Pool, policy: str, *pictures: BackendPicture) -> None:
    picture = replace(POOL, policy=policy, slow_start=RAMP)
    known = {each.name: each for each in pool.backends}
    backends = []
    for each in pictures:
        found = known.get(each.name) or Backend(each, pool, pool._table, 0)
        found.update(each)
        backends.append(found)
    pool.update(picture, backends)


def share_of_young(pool: Pool, requests: int = 4000) -> float:
    """Of so many requests that are over at once."""
    got: Counter[str] = Counter()
    for _ in range(requests):
        chosen = pool.claim(())
        assert chosen is not None
        got[chosen.name] += 1
        pool.release(chosen)
    return got["web-1"] / requests


OLD = backend(0, 9000, since=1.0)
YOUNG = backend(1, 9001, since=BORN)


@pytest.mark.parametrize("policy", ["weighted-round-robin", "random-two"])
def test_the_share_follows_the_ramp(pool: Pool, clock: Clock, policy: str) -> None:
    present(pool, policy, OLD, YOUNG)
    for age in (0.5, 2, 5, 10, 15, 19, 20, 40):
        clock.now = BORN + age
        pool.tick(clock.now)
        part = min(1.0, age / RAMP)
        assert share_of_young(pool) == pytest.approx(part / (1 + part), abs=0.05)


def test_a_probe_that_fails_now_and_then_does_not_start_it_anew(pool: Pool, clock: Clock) -> None:
    present(pool, "weighted-round-robin", OLD, YOUNG)
    clock.now = BORN + 10
    present(pool, "weighted-round-robin", OLD, replace(YOUNG, takes_requests=False))
    assert share_of_young(pool) == 0
    clock.now = BORN + 15
    present(pool, "weighted-round-robin", OLD, YOUNG)
    assert share_of_young(pool) == pytest.approx(0.75 / 1.75, abs=0.05)


def test_one_that_is_alone_takes_everything_at_any_age(pool: Pool, clock: Clock) -> None:
    present(pool, "weighted-round-robin", YOUNG)
    assert share_of_young(pool) == 1
