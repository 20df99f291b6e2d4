"""`python -m tests.benchmarks.simulate`: the policies themselves against modelled backends, at sizes that no one machine has.

Time is counted in mean service times, so 16 proxies that hand 1 M requests a second to 1,000 backends at 0.7 ms each are the
same system as 14 k a second at 50 ms, which is what is run here: `peak-ewma` forgets over 10 s, whatever a request takes.
"""

import heapq
import random
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field

from balancer.pool.latency import Latency
from balancer.pool.selection import Hash, LeastConnections, PeakEwma, Policy, RandomTwo, SmoothRoundRobin

PROXIES = 16
SERVICE = 0.05  # seconds, the mean
WARM_UP = 0.2  # of all requests, not counted
FAILURE_COUNTS_AS = 1.0  # seconds, as in `proxy/view`


class Server:
    """A modelled backend: one request at a time, first come first served. It is a policy's candidate, too."""

    def __init__(self, number: int, slowness: float, fails: bool) -> None:
        self.name = f"web-{number}"
        self.slowness = slowness
        self.fails = fails
        self.weight = 1
        self.load = 0
        self.latency = Latency()
        self.free_at = 0.0
        self.served = 0


class Chance(Policy[Server]):
    """Any, whatever happens: what queueing theory starts from."""

    def __init__(self, draw: Callable[[], float]) -> None:
        self._draw = draw
        self._servers: Sequence[Server] = ()

    def offer(self, candidates: Sequence[Server]) -> None:
        """Choose among these."""
        self._servers = candidates

    def choose(self, tried: Collection[Server], key: bytes = b"") -> Server | None:
        """One of them."""
        return self._servers[int(self._draw() * len(self._servers))]


@dataclass(frozen=True)
class Scenario:
    """What is modelled. busy: of the whole; service: one service time, of mean 1, from a source of chance; slow: so many servers
    are `slowness` times slower; failing: so many fail at once; keys: so many different ones for the policy "hash".
    """

    name: str
    title: str
    busy: float
    service: Callable[[random.Random], float]
    servers: int = 1000
    slow: int = 0
    slowness: float = 10.0
    failing: int = 0
    keys: int = 100_000

    @property
    def capacity(self) -> float:
        """Requests per second that all servers together can do."""
        return (self.servers - self.slow + self.slow / self.slowness) / SERVICE


@dataclass
class Outcome:
    """Times in the system, in mean service times; requests per server."""

    times: list[float] = field(default_factory=list)
    served: list[int] = field(default_factory=list)
    slow_share: float = 0.0  # of the requests that slow or failing servers got, as a part of an even share

    def quantile(self, share: float) -> float:
        """That this share of the requests did not exceed."""
        ordered = sorted(self.times)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))]

    @property
    def fairness(self) -> float:
        """Jain's index over the servers that are neither slow nor failing: 1 when all got the same, 1/n when one got all."""
        squares = sum(count * count for count in self.served)
        return sum(self.served) ** 2 / (len(self.served) * squares) if squares else 0.0


def exponential(chance: random.Random) -> float:
    """Memoryless."""
    return chance.expovariate(1)


def skewed(chance: random.Random) -> float:
    """95 % short, 5 % fifty times as long, as in the row `skew`."""
    return (50 if chance.random() < 0.05 else 1) / 3.45


SCENARIOS = [
    Scenario("even", "exponential service times, 70 % busy", 0.7, exponential),
    Scenario("full", "exponential service times, 90 % busy", 0.9, exponential),
    Scenario("skew", "95 % short, 5 % fifty times as long, 60 % busy", 0.6, skewed),
    Scenario("slow", "one server in twenty is ten times slower, 60 % busy", 0.6, exponential, slow=50),
    Scenario("fail", "one server in a hundred fails at once, 60 % busy", 0.6, exponential, failing=10),
]

Make = Callable[[random.Random, "Clock"], Policy[Server]]


class Clock:
    """The simulation's time, in seconds."""

    def __init__(self) -> None:
        self.now = 1.0

    def __call__(self) -> float:
        return self.now


POLICIES: dict[str, Make | None] = {
    "random": lambda chance, clock: Chance(chance.random),
    "weighted-round-robin": lambda chance, clock: SmoothRoundRobin(),
    "least-connections": lambda chance, clock: LeastConnections(),
    "random-two": lambda chance, clock: RandomTwo(chance.random),
    "peak-ewma": lambda chance, clock: PeakEwma(chance.random, clock),
    "hash": lambda chance, clock: Hash(),
    "one line (concurrency = 1)": None,
}


def simulate(make: Make | None, scenario: Scenario, requests: int, seed: int = 1, proxies: int = PROXIES) -> Outcome:
    """Run so many requests through it. make: the policy of each proxy; None: one line in front of all servers."""
    chance, clock = random.Random(seed), Clock()
    first_slow = scenario.servers - scenario.slow - scenario.failing
    servers = [
        Server(
            number,
            scenario.slowness if first_slow <= number < first_slow + scenario.slow else 1.0,
            number >= first_slow + scenario.slow,
        )
        for number in range(scenario.servers)
    ]
    policies = [make(random.Random(seed + number + 1), clock) for number in range(proxies if make else 0)]
    for policy in policies:
        policy.offer(servers)
        # As in life, proxies have not all begun in the same moment.
        for _ in range(chance.randrange(scenario.servers)):
            policy.choose(())
    rate = scenario.busy * scenario.capacity
    arrivals = [0.0] * requests
    for number in range(requests):
        arrivals[number] = (arrivals[number - 1] if number else clock.now) + chance.expovariate(rate)
    run = _Run(servers, clock, chance, scenario, int(requests * WARM_UP))
    for number, at in enumerate(arrivals):
        run.finish_until(at)
        if policies:
            key = b"%d" % chance.randrange(scenario.keys)
            server = policies[chance.randrange(proxies)].choose((), key)
            assert server is not None
            run.begin(server, number, at)
        else:
            run.wait(number, at)
    run.finish_until(float("inf"))
    sound, odd = servers[:first_slow], servers[first_slow:]
    total = sum(server.served for server in servers)
    run.outcome.served = [server.served for server in sound]
    if odd:
        run.outcome.slow_share = sum(s.served for s in odd) / total / (len(odd) / len(servers))
    return run.outcome


class _Run:
    """What is under way."""

    def __init__(
        self, servers: list[Server], clock: Clock, chance: random.Random, scenario: Scenario, skipped: int
    ) -> None:
        self.outcome = Outcome()
        self._clock = clock
        self._chance = chance
        self._scenario = scenario
        self._skipped = skipped
        self._ends: list[tuple[float, int, Server, float]] = []
        self._idle = deque(servers)  # for the one line: who has been idle for longest is next
        self._line: deque[tuple[int, float]] = deque()
        self._is_one_line = False

    def begin(self, server: Server, number: int, arrived: float) -> None:
        """Give the request to this server now."""
        now = self._clock.now
        seconds = 0.0 if server.fails else self._scenario.service(self._chance) * SERVICE * server.slowness
        server.free_at = max(server.free_at, now) + seconds
        server.load += 1
        heapq.heappush(self._ends, (server.free_at, number, server, arrived))

    def wait(self, number: int, arrived: float) -> None:
        """Join the one line; the server that is free, or frees first, takes it."""
        self._is_one_line = True
        self._line.append((number, arrived))
        self._hand_on()

    def finish_until(self, instant: float) -> None:
        """Let everything end that ends before then."""
        while self._ends and self._ends[0][0] <= instant:
            ended, number, server, arrived = heapq.heappop(self._ends)
            self._clock.now = ended
            server.load -= 1
            if server.fails:
                server.latency.penalise(FAILURE_COUNTS_AS, ended)
            else:
                server.latency.observe(ended - arrived, ended)
            if number >= self._skipped:
                server.served += 1
                if not server.fails:
                    self.outcome.times.append((ended - arrived) / SERVICE)
            if self._is_one_line:
                self._idle.append(server)
                self._hand_on()
        if instant != float("inf"):
            self._clock.now = instant

    def _hand_on(self) -> None:
        while self._line and self._idle:
            number, arrived = self._line.popleft()
            self.begin(self._idle.popleft(), number, arrived)
