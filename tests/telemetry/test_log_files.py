"""Files of backends' output: exchanged by size, whole lines, bounded; a disk that stalls stalls nobody."""

import json
import os
import threading
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.telemetry import log_files
from balancer.telemetry.log_files import FileSettings, LogFiles, append, rotate
from balancer.telemetry.logs import Logs

lines = st.lists(st.binary(max_size=60).map(lambda b: b.replace(b"\n", b"") + b"\n"), max_size=60)


@settings(max_examples=60)
@given(st.lists(lines, max_size=6), st.integers(1, 5))
def test_lines_stay_whole_and_in_order_and_the_newest_are_kept(batches: list[list[bytes]], kept: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        given_settings = FileSettings(folder, 100, kept)
        for batch in batches:
            append(given_settings, "web-0", batch)
        names = [f"web-0.log.{n}" for n in range(kept + 2, 0, -1)] + ["web-0.log"]
        files = [Path(folder, name).read_bytes() for name in names if Path(folder, name).exists()]
        assert len(files) <= kept
        assert all(len(file) <= 100 for file in files)
        everything = b"".join(line for batch in batches for line in batch)
        assert everything.endswith(b"".join(files))
        assert all(file.endswith(b"\n") for file in files if file)


def test_fewer_files_than_before_remove_the_rest(tmp_path: Path) -> None:
    path = str(tmp_path / "a.log")
    for number in range(1, 6):
        (tmp_path / f"a.log.{number}").write_text(str(number))
    (tmp_path / "a.log").write_text("0")
    rotate(path, 3)
    assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {"a.log.1": "0", "a.log.2": "1"}


def test_a_disk_that_stalls_stalls_nobody(tmp_path: Path, monkeypatch: object) -> None:
    blocked, go_on = threading.Event(), threading.Event()
    original = log_files.append

    def slow(*arguments: object) -> None:
        blocked.set()
        assert go_on.wait(10)
        original(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(log_files, "append", slow)  # type: ignore[attr-defined]
    monkeypatch.setattr(log_files, "QUEUED", 1000)  # type: ignore[attr-defined]
    files = LogFiles(FileSettings(str(tmp_path)))
    assert files.write("web-0", b"first\n")
    assert blocked.wait(10)
    assert sum(files.write("web-0", b"x" * 99 + b"\n") for _ in range(50)) == 10
    assert files.dropped == 40
    go_on.set()
    files.close()
    assert (tmp_path / "web-0.log").stat().st_size == 6 + 1000
    assert files.written == 11
    assert not files.write("web-0", b"late\n")


def test_a_problem_is_said_once_and_forgotten_when_it_is_over(tmp_path: Path) -> None:
    said: list[str] = []
    (tmp_path / "file").write_text("")
    files = LogFiles(FileSettings(str(tmp_path / "file")), said.append)
    for _ in range(3):
        files.write("web-0", b"lost\n")
    files.close()
    assert len(said) == 1
    assert "log.backends" in said[0]
    assert files.dropped == 3
    assert os.listdir(tmp_path) == ["file"]


def test_lines_of_backends_go_there_as_they_are_or_as_json(tmp_path: Path) -> None:
    files = LogFiles(FileSettings(str(tmp_path / "new" / "folder")))
    logs = Logs(files=files)
    logs.line("web", "web-0", 1, "stdout", "plain \x1b[1m")
    logs.line("", "proxy-0", 1, "stderr", "not a backend")
    logs.files_as_json = True
    logs.line("web", "web-1", 2, "stderr", "two")
    files.close()
    folder = tmp_path / "new" / "folder"
    assert sorted(os.listdir(folder)) == ["web-0.log", "web-1.log"]
    assert (folder / "web-0.log").read_text() == "plain \x1b[1m\n"
    found = json.loads((folder / "web-1.log").read_text())
    assert (found["backend"], found["generation"], found["stream"], found["line"]) == ("web-1", 2, "stderr", "two")
