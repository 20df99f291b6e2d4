"""What every test of the data plane needs."""

import pytest

from balancer.proxy import process


@pytest.fixture(autouse=True)
def _ordinary_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy freezes what its process has allocated; this process goes on to other tests."""
    monkeypatch.setattr(process, "_settle_memory", lambda: None)
