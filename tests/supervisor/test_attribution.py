"""Whose doing an end was, which request is suspected, and what a quarantine holds."""

import signal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.supervisor.attribution import MOST_SUSPECTS, Attribution, OutOfMemory, is_own_doing


def requests(*paths: str, seconds: float = 0.1) -> list[dict[str, Any]]:
    return [{"method": "GET", "path": path, "seconds": seconds} for path in paths]


@pytest.mark.parametrize(
    ("returncode", "out_of_memory", "own"),
    [
        (0, False, True),
        (1, False, True),
        (-signal.SIGSEGV, False, True),
        (-signal.SIGABRT, False, True),
        (-signal.SIGXCPU, False, True),
        (-signal.SIGKILL, False, False),
        (-signal.SIGKILL, True, True),
        (-signal.SIGTERM, True, False),
        (128 + signal.SIGTERM, False, False),
        (128 + signal.SIGKILL, True, True),
        (128 + signal.SIGSEGV, False, True),
    ],
)
def test_whose_doing(returncode: int, out_of_memory: bool, own: bool) -> None:
    assert is_own_doing(returncode, out_of_memory) is own


def test_want_of_memory_is_seen_once_and_for_all_that_fell_together(tmp_path: Path) -> None:
    counter = tmp_path / "memory.events"
    counter.write_text("low 0\noom_kill 3\n")
    memory = OutOfMemory(counter)
    assert not memory.happened(100.0)
    counter.write_text("low 0\noom_kill 4\n")
    assert memory.happened(101.0)
    assert memory.happened(101.9)
    assert not memory.happened(103.0)
    counter.unlink()
    assert not memory.happened(104.0)
    assert not OutOfMemory().happened(0.0)


def test_the_one_that_is_never_answered_ranks_first() -> None:
    attribution = Attribution()
    for _ in range(3):
        found = attribution.crashed("web", [*requests("/slow", "/slow", "/a", seconds=0.5), *requests("/boom")], 4)
        assert {suspect.fingerprint for suspect in found} == {"GET /slow", "GET /a", "GET /boom"}
        attribution.acquit("web", "GET /slow", 1)
    first, second = attribution.suspects("web")
    assert (first.fingerprint, first.crashes, first.guilt) == ("GET /boom", 3, 3), "younger at the crash than GET /a"
    assert second.fingerprint == "GET /a"
    assert attribution.suspects("other") == []
    # Alone once weighs more than beside others once.
    attribution.crashed("api", requests("/x", "/y"), 2)
    attribution.crashed("api", requests("/z"), 1)
    assert attribution.suspects("api")[0].fingerprint == "GET /z"
    attribution.acquit("api", "GET /nobody", 1)


@given(st.lists(st.lists(st.sampled_from("abcdef"), min_size=1, max_size=5), max_size=40))
def test_guilt_is_crashes_without_acquittal(crashes: list[list[str]]) -> None:
    attribution = Attribution()
    for paths in crashes:
        attribution.crashed("web", requests(*paths), len(paths))
        attribution.acquit("web", "GET a", 1 if "a" in paths else 0)
    suspects = {suspect.fingerprint: suspect for suspect in attribution.suspects("web")}
    assert "GET a" not in suspects
    for path in "bcdef":
        present = sum(path in paths for paths in crashes)
        assert (suspects[f"GET {path}"].guilt if present else 0) == present
        assert not present or suspects[f"GET {path}"].alone == sum(paths == [path] for paths in crashes)


def test_what_is_remembered_is_bounded() -> None:
    attribution = Attribution()
    for number in range(MOST_SUSPECTS + 100):
        attribution.crashed("web", requests(f"/{number}"), 1)
    assert len(attribution._suspects["web"]) == MOST_SUSPECTS


def test_quarantine_is_off_by_default_begins_at_so_many_and_ends_in_time() -> None:
    attribution = Attribution()
    suspects = attribution.crashed("web", requests("/boom"), 1)
    assert attribution.quarantine("web", suspects, 0, 10.0) == []
    assert attribution.quarantine("web", suspects, 2, 10.0) == []
    suspects = attribution.crashed("web", requests("/boom"), 1)
    assert attribution.quarantine("web", suspects, 2, 20.0) == ["GET /boom"]
    assert attribution.quarantine("web", suspects, 2, 30.0) == [], "longer, but not new"
    assert attribution.quarantined("web") == ("GET /boom",)
    assert attribution.next_release() == 30.0
    assert attribution.release(29.0) == []
    assert attribution.release(30.0) == [("web", "GET /boom")]
    assert attribution.quarantined("web") == ()


def test_who_is_acquitted_before_the_crash_is_known_is_no_suspect() -> None:
    attribution = Attribution()
    attribution.acquit("web", "GET /slow", 1)
    assert attribution.suspects("web") == []
    requests = [{"method": "GET", "path": path, "seconds": 0.1} for path in ("/slow", "/boom")]
    attribution.crashed("web", requests, 2)
    assert [suspect.fingerprint for suspect in attribution.suspects("web")] == ["GET /boom"]
