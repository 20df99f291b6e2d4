"""What one client may: the bucket as a model says, connections that are counted, networks that may not come."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.snapshot import LimitPicture, ListenerPicture
from balancer.proxy import limits
from balancer.proxy.limits import Limits, renewed

A, B = "192.0.2.1", "192.0.2.2"


class Bucket:
    """The token bucket as everybody knows it."""

    def __init__(self, rate: float, depth: int) -> None:
        self.rate, self.depth = rate, depth
        self.tokens, self.at = float(depth), 0.0

    def take(self, now: float) -> bool:
        self.tokens = min(self.depth, self.tokens + (now - self.at) * self.rate)
        self.at = now
        if self.tokens < 1 - 1e-6:
            return False
        self.tokens -= 1
        return True


@given(
    # Binary fractions: both computations are exact.
    st.sampled_from([0.25, 1, 4, 128]),
    st.integers(1, 20),
    st.lists(st.integers(0, 64).map(lambda n: n / 16), max_size=60),
)
def test_the_rate_is_a_token_bucket(rate: float, burst: int, pauses: list[float]) -> None:
    found = Limits(LimitPicture(rate=rate, burst=burst))
    model = Bucket(rate, burst)
    now = 0.0
    for pause in pauses:
        now += pause
        wait = found.take(A, now)
        assert (wait == 0) is model.take(now)
        if wait:
            # What it says to wait is enough, and not a second too much.
            assert (model.tokens + wait * rate) >= 1 - 1e-6
            assert wait == 1 or model.tokens + (wait - 1) * rate < 1


def test_a_burst_is_a_second_s_worth_unless_said() -> None:
    found = Limits(LimitPicture(rate=5))
    assert [found.take(A, 0.0) for _ in range(7)] == [0] * 5 + [1, 1]
    assert found.take(B, 0.0) == 0
    slow = Limits(LimitPicture(rate=1 / 60))
    assert [slow.take(A, 0.0), slow.take(A, 0.0), slow.take(A, 59.5), slow.take(A, 60.0)] == [0, 60, 1, 0]


def test_no_rate_is_no_limit_and_who_has_no_address_has_none() -> None:
    assert not any(Limits(LimitPicture()).take(A, 0.0) for _ in range(1000))
    found = Limits(LimitPicture(rate=1, connections=1, allow=("10.0.0.0/8",)))
    assert not any(found.take("", 0.0) for _ in range(10))
    found.enter("")
    assert not found.excess("")
    assert not found.is_denied("")
    found.leave("")


def test_ipv6_clients_are_networks() -> None:
    found = Limits(LimitPicture(connections=1))
    found.enter("2001:db8::1")
    found.enter("2001:db8::ffff:1")
    assert found.excess("2001:db8::2") == 1
    found.enter("2001:db8:0:1::1")
    assert found.excess("2001:db8:0:1::1") == 0


def test_connections_are_counted_until_they_end() -> None:
    found = Limits(LimitPicture(connections=2))
    for expected in (0, 0, 0.5, 1, 1.5):
        found.enter(A)
        assert found.excess(A) == expected
    for _ in range(3):
        found.leave(A)
    assert found.excess(A) == 0
    for _ in range(2):
        found.leave(A)
    assert not found._open


def test_networks() -> None:
    both = Limits(LimitPicture(allow=("10.0.0.0/8", "2001:db8::/32"), deny=("10.6.0.0/16", "10.1.1.1/32")))
    assert [both.is_denied(a) for a in ("10.1.2.3", "2001:db8::1", "10.6.0.1", "10.1.1.1", "11.0.0.1", "::1")] == [
        False, False, True, True, True, True,
    ]  # fmt: skip
    deny = Limits(LimitPicture(deny=("10.6.0.0/16",)))
    assert [deny.is_denied(a) for a in ("10.6.0.1", "10.7.0.1", "::1")] == [True, False, False]


def test_counts_outlive_a_reload() -> None:
    first = renewed({}, (ListenerPicture("web", 0, "", limit=LimitPicture(rate=1)), ListenerPicture("b", 1, "")))
    assert list(first) == ["web"]
    assert first["web"].take(A, 0.0) == 0
    again = renewed(first, (ListenerPicture("web", 0, "", limit=LimitPicture(rate=1, deny=(A,))),))
    assert again["web"].take(A, 0.0) == 1
    assert again["web"].is_denied(A)
    assert renewed(again, (ListenerPicture("web", 0, ""),)) == {}


def test_memory_is_bounded() -> None:
    found = Limits(LimitPicture(rate=1))
    addresses = [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(limits.REMEMBERED + 10)]
    for address in addresses:
        found.take(address, 0.0)
    assert len(found._full_at) <= limits.REMEMBERED
    # The one that was seen last is remembered.
    assert found.take(addresses[-1], 0.0) == 1
    # Buckets that are full again are forgotten first.
    busy = Limits(LimitPicture(rate=1, burst=100))
    for address in addresses[: limits.REMEMBERED - 1]:
        busy.take(address, 0.0)
    for _ in range(50):
        busy.take("::1", 0.0)
    busy.take(A, 5.0)
    busy.take(B, 5.0)
    assert len(busy._full_at) == 3
