"""What every test of the data plane needs."""

import pytest

from balancer.proxy import process
from tests.support.certificates import Authority, Files


@pytest.fixture(autouse=True)
def _ordinary_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy freezes what its process has allocated; this process goes on to other tests."""
    monkeypatch.setattr(process, "_settle_memory", lambda: None)


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One that clients and backends of the tests trust."""
    return Authority(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def site(authority: Authority) -> Files:
    """The certificate of localhost."""
    return authority.issue("localhost")
