"""One short run of the harness: it works, with every row and without an error. Times are not judged."""

import pytest

from tests.benchmarks.__main__ import main
from tests.benchmarks.report import markdown, plot
from tests.benchmarks.rows import ROWS, Measured


@pytest.mark.needs("nginx", "wrk", why="benchmarks")
@pytest.mark.parametrize(("peer", "rows"), [("nginx", ["small"]), ("balancer", [row.name for row in ROWS])])
def test_every_row_counts(peer: str, rows: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = main([*rows, "--smoke", "--only", peer])
    report = capsys.readouterr().out
    assert code == 0, report
    assert report.count(f"\n| {peer} | ") == len(rows)


def test_a_run_with_an_error_voids_the_row() -> None:
    numbers = {"req/s": 50.0, "CPU µs per request": 20.0}
    runs = {
        "small": {"nginx": [Measured(numbers)] * 3, "balancer": [Measured(numbers), Measured({}, "3 status errors")]}
    }
    text = markdown(ROWS[:1], runs, ["a machine"])
    assert "| nginx | 50 | 20 | 1.00 | 1.00 |" in text
    assert "| balancer | void: 3 status errors |" in text
    assert plot(ROWS[:1], runs).count("<rect") == 1
