"""Runs in, a Markdown table and a plot out."""

import html
import math
import statistics
from collections.abc import Mapping, Sequence

from tests.benchmarks.rows import Measured, Row

Runs = Mapping[str, Mapping[str, Sequence[Measured]]]  # row → peer → its runs


def medians(runs: Sequence[Measured]) -> dict[str, float] | None:
    """The median of each number over the runs; None when one of them is void."""
    if not runs or any(run.trouble for run in runs):
        return None
    return {name: statistics.median(run.numbers[name] for run in runs) for name in runs[0].numbers}


def markdown(rows: Sequence[Row], runs: Runs, about: Sequence[str]) -> str:
    """All rows as tables, under what the numbers hold for."""
    parts = ["# Benchmarks", "", *(f"- {line}" for line in about), ""]
    for row in rows:
        parts += [f"## {row.title}", "", *table(row, runs[row.name]), ""]
    return "\n".join(parts).rstrip("\n") + "\n"


def table(row: Row, peers: Mapping[str, Sequence[Measured]]) -> list[str]:
    """One row of the benchmark: a line for each peer, with its ratio to nginx."""
    found = {peer: medians(runs) for peer, runs in peers.items()}
    names = next((list(numbers) for numbers in found.values() if numbers), [])
    has_ratio = found.get("nginx") is not None
    heads = ["peer", *names, *([f"{row.ratio} of nginx's"] if has_ratio else [])]
    if has_ratio and "req/s" in names:
        heads.append("req/s of nginx's")
    lines = ["| " + " | ".join(heads) + " |", "| --- |" + " ---: |" * (len(heads) - 1)]
    for peer, numbers in found.items():
        if numbers is None:
            trouble = next((run.trouble for run in peers[peer] if run.trouble), "no run")
            lines.append(f"| {peer} | void: {trouble} |" + " |" * (len(heads) - 2))
            continue
        cells = [peer, *(shown(numbers[name]) for name in names)]
        nginx = found.get("nginx")
        if nginx:
            cells.append(ratio(numbers[row.ratio], nginx[row.ratio]))
            if "req/s" in names:
                cells.append(ratio(numbers["req/s"], nginx["req/s"]))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def ratio(one: float, other: float) -> str:
    """Two digits after the point; a dash when there is nothing to divide by."""
    return f"{one / other:.2f}" if other > 0 and not math.isnan(one) else "–"


def shown(number: float) -> str:
    """Three significant digits, or whole when larger."""
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def plot(rows: Sequence[Row], runs: Runs) -> str:
    """An SVG of bars, a panel for each row: what is compared, per peer; shorter is better."""
    panels = []
    top = 20.0
    for row in rows:
        found = {peer: medians(values) for peer, values in runs[row.name].items()}
        bars = {peer: numbers[row.ratio] for peer, numbers in found.items() if numbers}
        longest = max((value for value in bars.values() if not math.isnan(value)), default=0)
        if longest <= 0:
            continue
        panels.append(f'<text x="10" y="{top}" font-weight="bold">{html.escape(f"{row.title}: {row.ratio}")}</text>')
        for index, (peer, value) in enumerate(bars.items()):
            y = top + 10 + index * 22
            width = max(value / longest * 420, 1)
            colour = "#2563eb" if peer == "balancer" else "#9ca3af"
            panels.append(
                f'<text x="90" y="{y + 13}" text-anchor="end">{html.escape(peer)}</text>'
                f'<rect x="100" y="{y}" width="{width:.1f}" height="16" fill="{colour}"/>'
                f'<text x="{106 + width:.1f}" y="{y + 13}">{shown(value)}</text>'
            )
        top += 40 + 22 * len(bars)
    style = "font: 13px system-ui, sans-serif; fill: currentColor"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="620" height="{top:.0f}" style="background: white; color: black">'
        f'<g style="{style}">{"".join(panels)}</g></svg>\n'
    )
