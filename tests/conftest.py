"""What every test run sets up; the fixtures of one part stand beside its tests."""

import pytest
from hypothesis import HealthCheck, settings

from tests.support.programs import Programs
from tests.support.reruns import Reruns

# How long an example takes says what else the machine is doing; a test that hangs has pytest's timeout.
settings.register_profile("busy", settings.default, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


def pytest_configure(config: pytest.Config) -> None:
    """Make the markers known, and look after the system programs and second looks that tests need."""
    config.addinivalue_line("markers", "needs(*programs, why=part): system programs without which this cannot be tried")
    config.pluginmanager.register(Programs(), "programs")
    config.pluginmanager.register(Reruns(), "reruns")
