"""Certificates under a supervisor: what proxies are told, when files change, and what is left alone."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from balancer.errors import BalancerError
from balancer.settings.load import read
from balancer.settings.model import Settings
from balancer.supervisor import material
from balancer.supervisor.material import Material
from balancer.supervisor.truth import Truth
from balancer.telemetry.events import Events
from balancer.telemetry.ledger import Ledger
from balancer.telemetry.table import Table
from tests.support.certificates import Authority, Files

PATIENCE = 5.0


class Ground:
    """A material with everything it says written down."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.truth = Truth(settings, Ledger(Table.create(1, listeners=4, pools=4, backends=8)))
        self.events = Events()
        self.told: list[Any] = []
        self.logged: list[str] = []
        self.material = Material(self.truth, self.events, self.told.append, self._log)

    def _log(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self.logged.append(event)

    def kinds(self) -> list[str]:
        """The kinds of all events."""
        return [event.kind for event in self.events.last(100)]

    @property
    def cert(self) -> str:
        """The certificate that proxies were given last."""
        text: str = self.told[-1]["listeners"]["web"]["identities"][0]["chains"][0]["cert"]
        return text


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def settings(*files: Files, more: str = "") -> Settings:
    certificates = ", ".join(one.toml for one in files)
    listener = '[listen.web]\naddress = "127.0.0.1:8443"\npool = "far"\n'
    pool = '[pool.far]\n[[pool.far.group]]\naddress = "far.example:443"\n'
    tls = f"[listen.web.tls]\ncertificates = [{certificates}]\n" if files else ""
    return read(listener + tls + pool + more, "/tmp/cluster.toml")


def test_without_tls_there_is_nothing_to_say() -> None:
    ground = Ground(settings())
    ground.material.load(ground.settings)
    assert ground.material.message() is None
    assert not ground.told


def test_what_proxies_are_told(authority: Authority) -> None:
    site, us = authority.issue("localhost"), authority.issue("us.example")
    rsa_like = authority.issue("localhost", stem="twin")
    group = f'tls = {{ca = "{authority.file}", cert = "{us.cert}", key = "{us.key}"}}\n'
    ground = Ground(settings(site, rsa_like, authority.issue("b.example"), more=group))
    ground.material.load(ground.settings)
    (message,) = ground.told
    assert message == ground.material.message()
    identities = message["listeners"]["web"]["identities"]
    assert [identity["names"] for identity in identities] == [("localhost",), ("b.example",)]
    assert [len(identity["chains"]) for identity in identities] == [1, 1]  # one for each kind of key
    ((name, backend),) = message["backends"].items()
    assert backend["server_name"] == "far.example"
    assert backend["key"] == us.key.read_text()
    # A name for it that changes with whatever is in it.
    other = Ground(settings(site, more=group.replace("ca =", 'server_name = "x", ca =')))
    other.material.load(other.settings)
    assert name not in other.told[0]["backends"]
    assert [one.path for one in ground.material.certificates] == [str(f.cert) for f in (site, rsa_like)] + [
        str(authority.folder / "b.example.crt")
    ]


def test_a_broken_file_changes_nothing(authority: Authority) -> None:
    site = authority.issue("localhost")
    ground = Ground(settings(site))
    ground.material.load(ground.settings)
    before = ground.cert
    site.key.write_text("nothing")
    with pytest.raises(BalancerError, match="no private key"):
        ground.material.load(ground.settings)
    assert len(ground.told) == 1
    assert ground.cert == before


def test_a_reload_that_is_taken_back_brings_back_what_was_there(authority: Authority) -> None:
    ground = Ground(settings(authority.issue("localhost")))
    ground.material.load(ground.settings)
    before = ground.cert
    given = ground.material.load(settings(authority.issue("localhost", stem="new")))
    assert ground.cert != before
    ground.material.restore(given)
    assert ground.cert == before


async def test_files_that_change_are_read_once_both_have_come(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(material, "LOOK_INTERVAL", 0.02)
    site = authority.issue("localhost")
    ground = Ground(settings(site))
    ground.material.load(ground.settings)
    before = ground.cert

    async def until(kind: str) -> None:
        with trio.fail_after(PATIENCE):
            while kind not in ground.kinds():  # noqa: ASYNC110 a file has no event
                await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ground.material.watch)
        sound = site.key.read_bytes()
        site.key.write_bytes(authority.issue("other.example").key.read_bytes())
        await until("certificates rejected")
        assert len(ground.told) == 1
        await trio.sleep(0.1)  # what stays broken is said once
        assert ground.kinds().count("certificates rejected") == 1
        site.key.write_bytes(sound)
        authority.issue("localhost")
        await until("certificates renewed")
        assert ground.cert == site.cert.read_text() != before
        site.cert.unlink()
        with trio.fail_after(PATIENCE):
            while ground.kinds().count("certificates rejected") < 2:  # noqa: ASYNC110
                await trio.sleep(0.01)
        nursery.cancel_scope.cancel()
    assert ground.cert != before


async def test_what_still_changes_is_not_read(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """A certificate and its key are two files, and come one after the other."""
    ground = Ground(settings(authority.issue("localhost")))
    ground.material.load(ground.settings)
    looks = [((number, 0, 0),) for number in (1, 2, 3, 4, 4, 4)]
    left: list[int] = []
    done = trio.Event()

    def look(_: Any) -> Any:
        if len(looks) == 1:
            done.set()
        return looks.pop(0) if looks else ((4, 0, 0),)

    monkeypatch.setattr(material, "LOOK_INTERVAL", 0.001)
    monkeypatch.setattr(material, "stamp_of", look)
    monkeypatch.setattr(ground.material, "try_again", lambda: left.append(len(looks)))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ground.material.watch)
        with trio.fail_after(PATIENCE):
            await done.wait()
        nursery.cancel_scope.cancel()
    assert left[:1] == [1]


async def test_the_calendar_is_looked_at(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    ground = Ground(settings(authority.issue("localhost")))
    ground.material.load(ground.settings)
    monkeypatch.setattr(time, "time", lambda: 1e11)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(ground.material.watch)
        await trio.testing.wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    (said,) = ground.logged
    assert "localhost.crt expired on" in said
