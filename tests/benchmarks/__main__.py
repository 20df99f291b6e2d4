"""`python -m tests.benchmarks`: starts everything, measures row by row with the peers in turn, reports."""

import argparse
import platform
import shutil
import sys
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from tests.benchmarks import distribution, own, skew
from tests.benchmarks.origin import Origin
from tests.benchmarks.peers import STARTS, Peer
from tests.benchmarks.process import cores, raise_open_files, temporary_folder
from tests.benchmarks.report import markdown, plot
from tests.benchmarks.rows import ROWS, Conditions, Measured, Row

RESULTS = Path(__file__).with_name("results")
OWN = ("start", "reload", "distribution", "skew")


def main(arguments: list[str] | None = None) -> int:
    """Measure what is asked for. 0: every number counts; 1: a row is void or a peer did not start."""
    names = [row.name for row in ROWS]
    options = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    options.add_argument("rows", nargs="*", metavar="row", help=f"default: all of {', '.join((*names, *OWN))}")
    options.add_argument("--seconds", type=float, default=3, help="of each run")
    options.add_argument("--repeat", type=int, default=3, help="runs of each peer and row")
    options.add_argument("--only", default=",".join(STARTS), help="peers, separated by commas")
    options.add_argument("--smoke", action="store_true", help="as short as possible: does it work at all?")
    given = options.parse_args(arguments)
    wanted = given.rows or [*names, *OWN]
    peers = given.only.split(",")
    for word, known in (*((w, (*names, *OWN)) for w in wanted), *((p, tuple(STARTS)) for p in peers)):
        if word not in known:
            options.error(f"{word!r} is not one of {', '.join(known)}")
    if given.smoke:
        given.seconds, given.repeat = 1, 1
    raise_open_files()
    rows = [row for row in ROWS if row.name in wanted]
    peer_core, load_core = cores()
    conditions = Conditions(given.seconds, load_core)
    if given.smoke:
        conditions = replace(conditions, idle=50)
    runs = compare(rows, peers, conditions, given.repeat, peer_core) if rows else {}
    own_lines: list[str] = []
    if "balancer" in peers:
        if "start" in wanted:
            own_lines += own.start_up(given.repeat)
        if "reload" in wanted:
            own_lines += own.reloads(2 if given.smoke else 20)
        if "distribution" in wanted:
            own_lines += distribution.lines(given.seconds)
    if "skew" in wanted:
        own_lines += skew.lines(given.seconds, given.repeat, [*peers, "envoy"], peer_core, load_core)
    about = [
        f"`{' '.join(['python -m tests.benchmarks', *(arguments if arguments is not None else sys.argv[1:])])}`",
        f"{processor()}, {platform.system()} {platform.release()}, Python {platform.python_version()}",
        f"one core for each peer, {'another' if peer_core != load_core else 'THE SAME ONE'} for origin (nginx) and load (wrk)",
        f"medians of {given.repeat} runs of {given.seconds:g} s, the peers in turn",
    ]
    text = "\n".join((markdown(rows, runs, about), *own_lines))
    print(text)
    if not given.smoke:
        keep(text, plot(rows, runs))
    return 1 if any(run.trouble for row in runs.values() for found in row.values() for run in found) else 0


def compare(
    rows: list[Row], names: list[str], conditions: Conditions, repeat: int, core: int
) -> dict[str, dict[str, list[Measured]]]:
    """All runs: row → peer → runs. The peers alternate, so that what disturbs the machine disturbs all of them."""
    runs: dict[str, dict[str, list[Measured]]] = {row.name: {name: [] for name in names} for row in rows}
    with ExitStack() as stack:
        folder = temporary_folder()
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        origin = Origin(folder, conditions.load_core)
        stack.callback(origin.stop)

        def start(name: str) -> Peer:
            folder = temporary_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            peer = STARTS[name](folder, core, origin.ports)
            stack.callback(peer.stop)
            return peer

        peers = {name: start(name) for name in names}
        for row in rows:
            for number in range(repeat):
                for name in names:
                    progress(f"{row.title}: {name}, run {number + 1} of {repeat}")
                    if row.fresh:
                        peers[name].stop()
                        peers[name] = start(name)
                    runs[row.name][name].append(measured(row, peers[name], conditions))
    progress("")
    return runs


def measured(row: Row, peer: Peer, conditions: Conditions) -> Measured:
    """One run; what goes wrong voids it, and what the peer said about it is shown."""
    try:
        found = row.measure(peer, conditions)
    except (OSError, RuntimeError) as error:
        found = Measured({}, str(error))
    if found.trouble:
        said = peer.process.log.read_text(errors="replace").splitlines()[-5:]
        sys.stderr.write("\n".join((f"{row.title}: {peer.name}: {found.trouble}; its last lines:", *said, "")))
    return found


def progress(text: str) -> None:
    """One line on a terminal, over the last one."""
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def keep(text: str, drawing: str) -> None:
    """Write both beside this file, under the time of day."""
    RESULTS.mkdir(exist_ok=True)
    stem = time.strftime("%Y-%m-%d-%H%M%S")
    (RESULTS / f"{stem}.md").write_text(text)
    (RESULTS / f"{stem}.svg").write_text(drawing)


def processor() -> str:
    """The model's name, where the kernel says it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    try:
        raise SystemExit(main())
    except RuntimeError as problem:
        raise SystemExit(f"benchmarks: {problem}") from None
