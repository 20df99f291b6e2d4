"""A second look at tests of processes, sockets and real time.

Such a test says what happens within a deadline, and on a machine that is busy with something else a deadline can pass with nothing
broken. So when it fails it is tried once more; a defect fails both times. Nothing is hidden by that: the summary names each
test that needed its second look, with the traceback of the first, and such a test is one to repair. What is pure (parsers, policies,
settings, properties, architecture) has no such excuse: one failure is a failure.
"""

from typing import Any

import pytest

REAL = {
    "admin", "benchmarks", "channel", "cli", "dashboards", "demo", "deploy", "e2e", "net", "proxy", "supervisor", "support", "telemetry",
    "test_backend.py",
}  # fmt: skip
AT_MOST = 10  # in one run; where more fail, it is not for being in a hurry

_timer = pytest.StashKey[Any]()


class Reruns:
    """The pytest plugin that tells pytest-rerunfailures what is to be tried again; without that nothing is."""

    def pytest_configure(self, config: pytest.Config) -> None:
        """Bound the second looks, and show why they were needed."""
        if config.pluginmanager.hasplugin("rerunfailures"):
            config.option.max_suite_reruns = AT_MOST
            config.option.rerun_show_tracebacks = True

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Mark the tests that get one."""
        # With --pdb it is the first failure that one wants to look at, and pytest-rerunfailures would refuse.
        if config.pluginmanager.hasplugin("rerunfailures") and not config.option.usepdb:
            for item in items:
                if is_real(item):
                    item.add_marker(pytest.mark.flaky(reruns=1))

    def pytest_timeout_set_timer(self, item: pytest.Item, settings: Any) -> None:
        """Keep what pytest-timeout was about to set, and let it."""
        item.stash[_timer] = settings

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """A second look has a time limit of its own: the first failure has taken the test's timer away."""
        if getattr(item, "execution_count", 1) > 1 and _timer in item.stash:
            item.config.hook.pytest_timeout_set_timer(item=item, settings=item.stash[_timer])


def is_real(item: pytest.Item) -> bool:
    """Whether the test stands among those of processes and sockets, and is no property."""
    if getattr(getattr(item, "obj", None), "is_hypothesis_test", False):
        return False
    tests = item.config.rootpath / "tests"
    part = item.path.relative_to(tests).parts[0] if item.path.is_relative_to(tests) else ""
    return part in REAL
