"""System programs that tests need: `@pytest.mark.needs("node", why="the channel of Node.js backends")`.

Before the tests run, what is missing is installed through apt-get where that is allowed (root on a Debian machine). What
cannot be installed skips the tests that need it and is named at the end of the run; with CI set it fails them instead.
"""

import os
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterable

import pytest

# Program → the Debian package that brings it.
PACKAGES = {
    "ab": "apache2-utils",
    "caddy": "caddy",
    "chromium": "chromium",
    "curl": "curl",
    "go": "golang-go",
    "haproxy": "haproxy",
    "nginx": "nginx-light",
    "node": "nodejs",
    "openssl": "openssl",
    "promtool": "prometheus",
    "redis-server": "redis-server",
    "ruby": "ruby",
    "systemd-analyze": "systemd",
    "wrk": "wrk",
}


class Programs:
    """A pytest plugin: finds the programs that the collected tests ask for, and speaks about those that are missing."""

    def __init__(self) -> None:
        self.missing: dict[str, set[str]] = defaultdict(set)  # program → the parts that cannot be tried without it
        self.trouble = ""
        self.skipped: list[str] = []

    # Last, after -k, -m and other plugins have deselected: nothing is installed for a test that will not run.
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Install what is missing, and note the parts that must do without."""
        wanted = [(item, *need) for item in items for need in needs(item)]
        absent = {program for _, program, _ in wanted if not is_there(program)}
        if absent:
            self.trouble = install(PACKAGES[program] for program in absent)
        for _, program, why in wanted:
            if not is_there(program):
                self.missing[program].add(why)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Skip what cannot be tried; in CI nothing is skipped."""
        for program, _ in needs(item):
            if program in self.missing:
                verdict = pytest.fail if os.environ.get("CI") else pytest.skip
                verdict(f"{program} is not installed (Debian: {PACKAGES[program]})")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Remember what was skipped, for whatever reason; an expected failure is not."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.skipped.append(report.nodeid)

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        """In CI a skipped test is a test that nobody ran."""
        if os.environ.get("CI") and self.skipped and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Name the parts that could not be tried."""
        if self.missing:
            terminalreporter.section("not tried: a program is missing")
            for program, parts in sorted(self.missing.items()):
                terminalreporter.line(f"{program} (Debian: {PACKAGES[program]}): {', '.join(sorted(parts))}")
            if self.trouble:
                terminalreporter.line(self.trouble)
        if os.environ.get("CI") and self.skipped:
            terminalreporter.section("skipped, which fails in CI")
            for test in self.skipped:
                terminalreporter.line(test)


def needs(item: pytest.Item) -> list[tuple[str, str]]:
    """(program, the part that it is needed for) of one test; the part is its module unless the marker's `why` says it."""
    found = []
    for marker in item.iter_markers("needs"):
        for program in marker.args:
            if program not in PACKAGES:
                raise pytest.UsageError(
                    f"{item.nodeid} needs {program!r}, which tests/support/programs.py does not know"
                )
            found.append((program, marker.kwargs.get("why") or item.nodeid.partition("::")[0]))
    return found


def is_there(program: str) -> bool:
    """Whether it is on the path, or where Debian keeps what only root is expected to run."""
    return find(program) is not None


def find(program: str) -> str | None:
    """Its full name. Also looks into the sbin folders, which an ordinary user's PATH lacks."""
    return shutil.which(program, path=os.pathsep.join((os.environ.get("PATH", ""), "/usr/local/sbin", "/usr/sbin")))


def install(packages: Iterable[str]) -> str:
    """Install Debian packages; "" when all went well, else one line about what stood in the way."""
    wanted = sorted(set(packages))
    if shutil.which("apt-get") is None:
        return "There is no apt-get here; install them by hand."
    if os.geteuid() != 0:
        return f"As root: apt-get update && apt-get install {' '.join(wanted)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    quiet = ["apt-get", "-qq", "-o", "DPkg::Lock::Timeout=120"]

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*quiet, *arguments], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )

    # A list that is out of date is no reason to give up: the packages may still be there.
    run("update")
    trouble = []
    # One at a time: a package that this release does not have must not keep the others out.
    for package in wanted:
        done = run("install", "-y", "--no-install-recommends", package)
        if done.returncode != 0:
            said = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
            trouble.append(f"apt-get could not install {package}: {said[-1]}")
    return "; ".join(trouble)
