"""The balancer's own log, as text and JSON."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable

from balancer.telemetry.console import Console
from balancer.telemetry.log import Log


def lines(use: Callable[[Log], None], **options: str) -> list[str]:
    read, written = os.pipe()
    console = Console(written)
    use(Log(console, **options))  # type: ignore[arg-type]
    console.close(10)
    os.close(written)
    with open(read) as pipe:
        return pipe.read().splitlines()


def fail(log: Log) -> None:
    try:
        raise RuntimeError("a\x1b[2Jb")
    except RuntimeError as error:
        log.error("unexpected", where="sweep", exc_info=error)


def test_text() -> None:
    def use(log: Log) -> None:
        log.debug("not at this level")
        log.info("web-3 ready", generation=7, reason="a b", empty="", pid=None, quoted='"')
        log.set("warning", "text")
        log.info("no longer")
        log.write("strange", "from a proxy", {"traceback": "Traceback\n  line 1"})
        fail(log)

    first, second, below, beneath, third, *traceback = lines(use)
    assert re.fullmatch(
        r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} info    web-3 ready generation=7 reason="a b" quoted="\\""', first
    )
    assert second.endswith("error   from a proxy")
    assert (below, beneath) == ("    Traceback", "      line 1")
    assert third.endswith("error   unexpected where=sweep")
    assert traceback[0] == "    Traceback (most recent call last):"
    assert traceback[-1] == "    RuntimeError: a\\x1b[2Jb"


def test_json() -> None:
    def use(log: Log) -> None:
        log.info("web-3 ready", generation=7, requests=[{"path": "/\n"}])
        fail(log)

    first, second = map(json.loads, lines(use, format="json"))
    assert first.pop("time") > 1e9
    assert first == {"level": "info", "event": "web-3 ready", "generation": 7, "requests": [{"path": "/\n"}]}
    assert list(json.loads(json.dumps(second)))[:3] == ["time", "level", "event"]
    assert "RuntimeError" in second["exception"]


def test_nothing_heavy_is_imported_before_the_first_line() -> None:
    heavy = {"structlog", "rich", "prometheus_client", "pydantic", "click"}
    program = f"import sys, balancer.telemetry.log, balancer.telemetry.logs; print({heavy} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "set()\n"
