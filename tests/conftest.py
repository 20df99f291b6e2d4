"""What every test run sets up; the fixtures of one part stand beside its tests."""

import pytest

from tests.support.programs import Programs


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and look after the system programs that tests ask for."""
    config.addinivalue_line("markers", "needs(*programs, why=part): system programs without which this cannot be tried")
    config.pluginmanager.register(Programs(), "programs")
