"""The access log: whole lines, nothing injected, and never in a request's way."""

import json
import os
import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from balancer.telemetry.access_log import HELD, AccessLog

COMBINED = re.compile(
    r'(\S+) - - \[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\] "((?:[^"\\]|\\x[0-9A-F]{2})*)" (\d{3}) (\d+|-)'
    r' "((?:[^"\\]|\\x[0-9A-F]{2})*)" "((?:[^"\\]|\\x[0-9A-F]{2})*)"'
)


def write(log: AccessLog, **changes: Any) -> None:
    fields: dict[str, Any] = {
        "client": "192.0.2.1",
        "method": b"GET",
        "target": b"/a?b=c",
        "minor": 1,
        "status": 200,
        "sent": 1234,
        "seconds": 0.0125,
        "referer": b"https://example.com/",
        "user_agent": b"curl/8",
        "pool": "web",
        "backend": "web-3",
        "request_id": b"abc",
    }
    log.write(**{**fields, **changes})


def test_combined(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "access.log"), "combined")
    write(log)
    write(log, status=499, sent=0, referer=b"", user_agent=b"")
    log.close()
    first, second = (tmp_path / "access.log").read_text().splitlines()
    assert (found := COMBINED.fullmatch(first))
    assert found.groups() == ("192.0.2.1", "GET /a?b=c HTTP/1.1", "200", "1234", "https://example.com/", "curl/8")
    assert second.endswith('499 - "-" "-"')


def test_json(tmp_path: Path) -> None:
    log = AccessLog(str(tmp_path / "access.log"), "json")
    write(log, status=502, reason="reset", target=b'/"\xff\n')
    log.close()
    (line,) = (tmp_path / "access.log").read_text().splitlines()
    entry = json.loads(line)
    assert entry.pop("time") > 1e9
    assert entry == {
        "client": "192.0.2.1",
        "method": "GET",
        "target": '/"\\xff\n',
        "version": "1.1",
        "status": 502,
        "bytes": 1234,
        "seconds": 0.0125,
        "pool": "web",
        "backend": "web-3",
        "request_id": "abc",
        "reason": "reset",
        "referer": "https://example.com/",
        "user_agent": "curl/8",
    }


@given(st.binary(), st.binary(), st.binary(), st.sampled_from(["combined", "json"]))
def test_whatever_a_client_sends_is_one_line(target: bytes, referer: bytes, agent: bytes, format: str) -> None:  # noqa: A002
    read, written = os.pipe()
    log = AccessLog("stderr", format, output=written)
    write(log, target=target, referer=referer, user_agent=agent)
    log.flush()
    os.close(written)
    with open(read, "rb") as pipe:
        data = pipe.read()
    assert data.count(b"\n") == 1
    assert data[:-1].decode("ascii").isprintable()
    if format == "combined":
        assert COMBINED.fullmatch(data[:-1].decode())
    else:
        json.loads(data)


def test_rotation_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    log = AccessLog(str(path), "combined")
    write(log, target=b"/before")
    path.rename(tmp_path / "access.log.1")
    log.reopen()
    write(log, target=b"/after")
    log.close()
    assert "/before" in (tmp_path / "access.log.1").read_text()
    assert "/after" in path.read_text()


def test_a_pipe_that_nobody_reads_costs_lines_and_not_time() -> None:
    read, written = os.pipe()
    log = AccessLog("stderr", "combined", output=written)
    for _ in range(30_000):
        write(log, target=b"/" + b"x" * 100)
    log.flush()
    assert log.dropped > 0
    assert log._size <= HELD + 65536
    # Once it is read again, the lines are whole: the piece that was written in part is continued.
    data = b""
    os.set_blocking(read, False)
    while True:
        try:
            piece = os.read(read, 1 << 20)
        except BlockingIOError:
            if not log._size:
                break
            log.flush()
        else:
            data += piece
    assert data.count(b"\n") == log.written
    assert all(COMBINED.fullmatch(line) for line in data.decode().splitlines())
    os.close(read)
    write(log)
    log.flush()
    assert "Broken pipe" in log.problem
    os.close(written)


def test_a_path_that_cannot_be_opened_is_said_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "not yet" / "access.log"
    log = AccessLog(str(path), "combined")
    assert "No such file" in log.problem
    write(log)
    log.flush()
    assert (log.written, log.dropped) == (0, 1)
    path.parent.mkdir()
    log.reopen()
    write(log)
    log.close()
    assert (log.problem, log.written) == ("", 1)


def test_a_fifo_that_nobody_reads_does_not_hold_up_a_start(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    log = AccessLog(str(tmp_path / "fifo"), "combined")
    assert "nobody reads it" in log.problem
    write(log)
    log.close()
    assert log.dropped == 1
