"""Notes: what is in them, how many are kept, and that a disk that fails or stalls holds nothing up."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from balancer.pool.backend import Backend, BackendId
from balancer.supervisor import forensics
from balancer.supervisor.forensics import Forensics, examine, is_stopped
from tests.supervisor.ground import app, ground
from tests.supervisor.test_backend import pid_of

BACKEND = Backend(BackendId("web-3", 7), "web", "", "127.0.0.1", 9000, 0, 1, False, 0.0)
REQUESTS = [{"method": "GET", "path": "/boom", "seconds": 0.25, "request_id": "abc"}]


async def test_a_note_holds_what_is_known_and_is_for_the_owner_alone(tmp_path: Path) -> None:
    notes = Forensics(str(tmp_path / "notes"), lambda pool, name, count: [f"{pool} {name}", "last words"])
    path = notes.path(BACKEND, "crashed")
    assert os.path.basename(path)[8:].endswith("-web-3-7-crashed.txt")
    await notes.write(path, BACKEND, {"crashed": "SIGSEGV"}, REQUESTS)
    text = await trio.Path(path).read_text()
    for part in (
        "web-3 (pool web, generation 7, 127.0.0.1:9000)",
        "crashed: SIGSEGV",
        "GET /boom 0.25s  abc",
        "last words",
    ):
        assert part in text
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(tmp_path / "notes").st_mode & 0o777 == 0o700
    assert notes.problem == ""


async def test_the_oldest_go_by_number_and_by_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forensics, "KEPT", 5)
    notes = Forensics(str(tmp_path), lambda *_: ())
    (tmp_path / "mine.txt").write_text("not a note")
    for number in range(9):
        await notes.write(str(tmp_path / f"2026010{number}T000000-web-0-1-hung.txt"), BACKEND, {}, [])
    assert sorted(name[:8] for name in os.listdir(tmp_path)) == [*(f"2026010{n}" for n in range(4, 9)), "mine.txt"]
    monkeypatch.setattr(forensics, "KEPT_BYTES", 1000)
    big = Forensics(str(tmp_path), lambda *_: ["x" * 700])
    for number in range(3):
        await big.write(str(tmp_path / f"2027010{number}T000000-web-0-1-hung.txt"), BACKEND, {}, [])
    assert sorted(name[:8] for name in os.listdir(tmp_path)) == ["20270102", "mine.txt"]
    monkeypatch.setattr(forensics, "LARGEST", 100)
    await big.write(str(tmp_path / "20280101T000000-web-0-1-hung.txt"), BACKEND, {}, [])
    assert (tmp_path / "20280101T000000-web-0-1-hung.txt").stat().st_size == 101


async def test_a_disk_that_fails_or_stalls_holds_nothing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    notes = Forensics(str(tmp_path / "file"), lambda *_: ())
    await notes.write(notes.path(BACKEND, "hung"), BACKEND, {}, [])
    assert "file" in notes.problem
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setattr(forensics, "WRITE_TIME", 0.1)
    with trio.fail_after(10):
        await notes.write(str(fifo), BACKEND, {}, [])
    assert "not written within" in notes.problem
    with open(os.open(fifo, os.O_RDONLY | os.O_NONBLOCK), "rb"):  # noqa: ASYNC230
        pass  # lets the thread go
    silent = Forensics("", lambda *_: ())
    assert silent.path(BACKEND, "hung") == ""
    await silent.write("", BACKEND, {}, [])


def test_what_the_kernel_says_of_a_process() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "import signal; print(1, flush=True); signal.pause()"], stdout=subprocess.PIPE
    ) as child:
        assert child.stdout is not None
        try:
            child.stdout.readline()
            found = examine(child.pid)
            assert "State: " in found["status"]
            assert f"{child.pid} python" in found["threads"]
            assert int(found["open descriptors"]) >= 3
            assert not is_stopped(child.pid)
            child.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
            assert is_stopped(child.pid)
        finally:
            child.kill()
    assert examine(child.pid) == {}
    assert not is_stopped(child.pid)


async def test_a_note_tells_a_kill_from_a_crash(tmp_path: Path) -> None:
    async with ground() as g:
        g.fleet.around = g.around = replace(g.around, forensics=Forensics(str(tmp_path), lambda *_: ()))
        slot = g.add(app())
        await g.event("ready")
        os.kill(pid_of(slot), signal.SIGKILL)
        crashed = await g.event("crashed")
        await g.event("ready", 2)
        note = await trio.Path(crashed.detail["note"]).read_text()
        assert "crashed: SIGKILL\ncause: a signal that somebody else sent\n\nrequests in flight: 0\n" in note


async def test_a_crash_leaves_a_note_and_the_event_names_it(tmp_path: Path) -> None:
    async with ground() as g:
        g.fleet.around = g.around = replace(g.around, forensics=Forensics(str(tmp_path), lambda *_: ["its last line"]))
        slot = g.add(app())
        await g.event("ready")
        backend = next(iter(g.truth.backends.values()))
        live = {"method": "GET", "path": "/live", "seconds": 7201.5, "request_id": "def", "upgraded": True}
        answers = [{"count": 1, "requests": REQUESTS}, {"upgraded_count": 3, "upgraded": [live]}]
        g.casualties[backend.id] = answers
        os.kill(pid_of(slot), signal.SIGSEGV)
        crashed = await g.event("crashed")
        assert crashed.detail["how"] == "SIGSEGV"
        assert crashed.detail["casualties"] == 4
        assert crashed.detail["requests"] == [*REQUESTS, live]
        # What has been open for two hours is named, and no suspect: the other was alone.
        assert crashed.detail["suspects"] == [{"request": "GET /boom", "crashes": 1, "alone": 1, "acquitted": 0}]
        await g.event("ready", 2)
        note = await trio.Path(crashed.detail["note"]).read_text()
        head, _, rest = note.partition("\n\n")
        assert head.splitlines()[2:] == ["crashed: SIGSEGV", "cause: its own doing"]
        assert rest.startswith(
            "requests in flight: 4\n  GET /boom 0.25s  abc\n  GET /live 7202s upgraded  def\n  and 2 more\n\n"
        )
        assert "its last line" in note
        assert g.truth.attribution.suspects("web")[0].fingerprint == "GET /boom"
