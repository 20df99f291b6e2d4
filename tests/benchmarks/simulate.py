"""`python -m tests.benchmarks.simulate`: the policies themselves against modelled backends, at sizes that no one machine has.

Time is counted in mean service times, so 16 proxies that hand 1 M requests a second to 1,000 backends at 0.7 ms each are the
same system as 14 k a second at 50 ms, which is what is run here: `peak-ewma` forgets over 10 s, whatever a request takes.
"""

import argparse
import heapq
import html
import random
import statistics
import sys
from collections import deque
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from balancer.pool.latency import Latency
from balancer.pool.selection import Hash, LeastConnections, PeakEwma, Policy, RandomTwo, SmoothRoundRobin
from tests.benchmarks import queueing

PROXIES = 16
SERVICE = 0.05  # seconds, the mean
WARM_UP = 0.4  # of all requests, not counted: the system begins empty
ONE_LINE = "one line (concurrency = 1)"
RESULTS = Path(__file__).with_name("results")
FAILURE_COUNTS_AS = 1.0  # seconds, as in `proxy/view`


class Server:
    """A modelled backend: one request at a time, first come first served. It is a policy's candidate, too."""

    __slots__ = ("fails", "free_at", "latency", "load", "name", "served", "slowness", "weight")

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
    variation: float = 1.0  # squared coefficient of variation of the service times

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
    Scenario("even", "exponential service times, 60 % busy", 0.6, exponential),
    Scenario("full", "exponential service times, 80 % busy", 0.8, exponential),
    Scenario("skew", "95 % short, 5 % fifty times as long, 60 % busy", 0.6, skewed, variation=9.58),
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
    ONE_LINE: None,
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
    policies = [make(random.Random(seed + number + 1), clock) for number in range(proxies)] if make else []
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


def theory(policy: str, scenario: Scenario) -> float | None:
    """The mean time in the system that queueing theory expects, in mean service times; None where it has no formula."""
    if scenario.slow or scenario.failing:
        return None
    if policy == "random":
        return queueing.alone(scenario.busy, scenario.variation)
    if policy == ONE_LINE:
        return queueing.one_line(scenario.servers, scenario.busy, scenario.variation)
    if scenario.variation == 1 and policy == "random-two":
        return queueing.better_of_two(scenario.busy)
    if scenario.variation == 1 and policy == "weighted-round-robin":
        return queueing.in_turn(scenario.busy)
    return None


def table(scenario: Scenario, outcomes: dict[str, Outcome]) -> list[str]:
    """Lines of the report."""
    is_odd = bool(scenario.slow or scenario.failing)
    heads = [
        "policy",
        "mean",
        "theory",
        "p50",
        "p99",
        "p99.9",
        "fairness",
        *(["share of the odd ones"] if is_odd else []),
    ]
    lines = [f"## {scenario.title}", "", f"| {' | '.join(heads)} |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for policy, outcome in outcomes.items():
        expected = theory(policy, scenario)
        quantiles = [f"{outcome.quantile(share):.2f}" for share in (0.5, 0.99, 0.999)]
        cells = [policy, f"{statistics.fmean(outcome.times):.2f}", f"{expected:.2f}" if expected else "–", *quantiles]
        cells.append(f"{outcome.fairness:.3f}")
        if is_odd:
            cells.append(f"{outcome.slow_share:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def plot(found: dict[str, dict[str, Outcome]]) -> str:
    """An SVG: for each scenario the p99 of each policy as a bar, what theory expects of the mean as a line across it."""
    parts, top = [], 20.0
    for scenario in SCENARIOS:
        outcomes = found.get(scenario.name, {})
        # One that is unstable must not make the others invisible.
        longest = min(max((o.quantile(0.99) for o in outcomes.values()), default=0), 60)
        if not longest:
            continue
        parts.append(f'<text x="10" y="{top}" font-weight="bold">{html.escape(scenario.title)}: p99, fairness</text>')
        for index, (policy, outcome) in enumerate(outcomes.items()):
            y, p99 = top + 10 + index * 20, outcome.quantile(0.99)
            width = min(p99 / longest, 1) * 360
            expected = theory(policy, scenario)
            parts.append(
                f'<text x="180" y="{y + 12}" text-anchor="end">{html.escape(policy)}</text>'
                f'<rect x="190" y="{y}" width="{width:.1f}" height="14" fill="#2563eb"/>'
                f'<text x="{196 + width:.1f}" y="{y + 12}">{p99:.1f} · {outcome.fairness:.2f}</text>'
            )
            if expected:
                x = 190 + min(expected / longest, 1) * 360
                parts.append(
                    f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y - 2}" y2="{y + 16}" stroke="#dc2626" stroke-width="2"/>'
                )
        top += 40 + 20 * len(outcomes)
    style = "font: 13px system-ui, sans-serif; fill: currentColor"
    body = "".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="680" height="{top:.0f}" style="background: white; color: black">'
        f'<g style="{style}">{body}</g></svg>\n'
    )


def main(arguments: list[str] | None = None) -> None:
    """Simulate what is asked for, print tables, keep them and the plot."""
    names = [scenario.name for scenario in SCENARIOS]
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks.simulate", description=__doc__)
    options.add_argument("scenarios", nargs="*", metavar="scenario", help=f"default: all of {', '.join(names)}")
    options.add_argument("--requests", type=int, default=200_000, help="in each scenario, for each policy")
    given = options.parse_args(arguments)
    found: dict[str, dict[str, Outcome]] = {}
    lines = [
        "# Policies against modelled backends",
        "",
        f"{PROXIES} proxies, {SCENARIOS[0].servers} backends that do one request at a time, {given.requests} requests; times in the "
        "system in mean service times. Theory: the mean that queueing theory expects.",
        "",
    ]
    for scenario in SCENARIOS:
        if not given.scenarios or scenario.name in given.scenarios:
            found[scenario.name] = {
                policy: simulate(make, scenario, given.requests) for policy, make in POLICIES.items()
            }
            lines += table(scenario, found[scenario.name])
    text = "\n".join(lines)
    sys.stdout.write(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "simulation.md").write_text(text)
    (RESULTS / "simulation.svg").write_text(plot(found))


if __name__ == "__main__":
    main()
