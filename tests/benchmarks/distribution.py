"""Who gets what: requests over four Node.js backends, in each way that connections can come to them.

`python -m tests.benchmarks.distribution [SECONDS]`. The classic comparison of accepting on one shared socket with handing out in turn:
counts, shares, the largest to the smallest, the coefficient of variation (standard deviation over mean, 0 when all get the same), and
Jain's index of fairness (R. Jain et al., "A quantitative measure of fairness", DEC-TR-301, 1984): (Σx)² / (n Σx²), 1 when all get the
same. Each backend counts for itself and says its number when it ends.
"""

import json
import re
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import trio

from tests.support.programs import find
from tests.support.running import ROOT, running

BACKENDS = 4
APP = ROOT / "tests" / "apps" / "hello.js"
PATIENCE = 30.0


@dataclass(frozen=True)
class Way:
    """One line of the table. mode: of the pool; kept: whether clients keep their connections."""

    title: str
    mode: str
    kept: bool = False
    clients: int = 64


WAYS = (
    Way("shared: backends accept on one socket", "shared"),
    Way("pass: connections in turn", "pass"),
    Way("proxy: requests in turn", "proxy"),
    Way("proxy, 8 kept connections", "proxy", kept=True, clients=8),
    Way("proxy, 1 kept connection", "proxy", kept=True, clients=1),
    Way("shared, 8 kept connections", "shared", kept=True, clients=8),
)


def lines(seconds: float) -> list[str]:
    """The table, as lines of Markdown. Raises RuntimeError when node or wrk is not installed, or wrk says that requests failed."""
    return trio.run(_lines, seconds)


def jain(counts: Sequence[int]) -> float:
    """Of 1/n, one gets everything, to 1, all get the same."""
    return sum(counts) ** 2 / (len(counts) * sum(count * count for count in counts)) if any(counts) else 0.0


def variation(counts: Sequence[int]) -> float:
    """Standard deviation over mean, of these counts themselves and not of what they are a sample of; 0 when there are none."""
    return statistics.pstdev(counts) / statistics.fmean(counts) if any(counts) else 0.0


def row(title: str, counts: Sequence[int]) -> str:
    """A line of the table."""
    total = sum(counts)
    shares = " / ".join(f"{100 * count / total:.1f}" if total else "–" for count in counts)
    ratio = f"{max(counts) / min(counts):.3f}" if min(counts) else "∞"
    figures = (shares, ratio, f"{variation(counts):.4f}", f"{jain(counts):.5f}")
    return "| " + " | ".join((title, *(f"{count:,}" for count in counts), *figures)) + " |"


async def _lines(seconds: float) -> list[str]:
    heads = ["way", *(f"backend {number}" for number in range(BACKENDS)), "shares %", "max:min", "CV", "Jain"]
    text = [f"## distribution over {BACKENDS} Node.js backends: wrk, 64 clients, a connection for each request, {seconds:g} s", "",
            "| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]  # fmt: skip
    return [*text, *[row(way.title, await _counts(way, seconds)) for way in WAYS], ""]


async def _counts(way: Way, seconds: float) -> list[int]:
    """Requests that each backend has answered."""
    async with running(_config(way.mode), patience=PATIENCE) as balancer:
        # Ready is a pool with one backend that takes requests: the shares are of four.
        await balancer.until(lambda status: all(b["takes_requests"] for b in status["pools"][0]["backends"]))
        header = [] if way.kept else ["-H", "Connection: close"]
        command = [_program("wrk"), "-t", "1", "-c", str(way.clients), "-d", f"{seconds:g}s", *header, balancer.url]
        with trio.fail_after(seconds + PATIENCE):
            said = (await trio.run_process(command, capture_stdout=True)).stdout.decode()
        if "Non-2xx" in said or "Socket errors" in said:
            raise RuntimeError(f"{way.title}: {said}")
    found = dict(re.findall(r"(web-\d+) \| served (\d+)", balancer.text))
    return [int(found.get(f"web-{number}", 0)) for number in range(BACKENDS)]


def _config(mode: str) -> str:
    way = {"shared": "socket", "pass": "pass", "proxy": "port"}[mode]
    return f"""[listen.web]
address = "127.0.0.1:0"

[proxy]
processes = 1

[pool.web]
command = {json.dumps([_program("node"), str(APP)])}
backends = {BACKENDS}
mode = "{mode}"
env.WAY = "{way}"
ready.when = "message"
stop = {{message = true, signal = "SIGWINCH"}}
"""


def _program(name: str) -> str:
    found = find(name)
    if found is None:
        raise RuntimeError(f"{name} is not installed")
    return found


if __name__ == "__main__":
    print("\n".join(lines(float(sys.argv[1]) if len(sys.argv) > 1 else 5)))
