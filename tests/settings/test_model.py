import sys
from pathlib import Path

import pytest
from pydantic import BaseModel

from balancer.settings import cpus
from balancer.settings.explain import tables
from balancer.settings.load import read
from balancer.settings.model import Settings


def _settings(text: str) -> Settings:
    return read(f"[listen.web]\naddress = '127.0.0.1:0'\n{text}", on_this_machine=False, environ={})


def test_a_pool_without_groups_is_one_group() -> None:
    pool = _settings('[pool.web]\ncommand = "a b"\nbackends = 3\nweight = 2\nenv = {A = "1"}\nuser = "u"').pool["web"]
    (group,) = pool.groups
    assert (group.command, group.backend_count, group.weight, group.env, group.user) == (
        ("a", "b"),
        3,
        2,
        {"A": "1"},
        "u",
    )
    assert group.is_spawned
    assert not group.backup
    assert group.cwd == str(Path.cwd())


def test_groups_take_the_pools_user_unless_they_have_their_own() -> None:
    text = '[pool.web]\nuser = "u"\ngroup = [{command = "a"}, {command = "b", user = "v"}, {address = "10.0.0.7:80"}]'
    groups = _settings(text).pool["web"].groups
    assert [group.user for group in groups[:2]] == ["u", "v"]
    assert [group.is_spawned for group in groups] == [True, True, False]


def test_auto_follows_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = _settings('[pool.web]\ncommand = "a"\nbackends = "auto"')
    for module in ("balancer.settings.model", "balancer.settings.model_pool"):
        monkeypatch.setattr(sys.modules[module], "usable_cpus", lambda: 5)
    assert (settings.proxy.process_count, settings.pool["web"].backend_count) == (2, 5)
    monkeypatch.setattr(sys.modules["balancer.settings.model"], "usable_cpus", lambda: 1)
    assert settings.proxy.process_count == 1
    assert cpus.usable_cpus() >= 1


@pytest.mark.parametrize("written", ["0", '"max"', '"auto"'])
def test_one_per_cpu_is_written_in_three_ways(written: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["balancer.settings.model_pool"], "usable_cpus", lambda: 5)
    alone = _settings(f'[pool.web]\ncommand = "a"\nbackends = {written}').pool["web"]
    grouped = _settings(f'[[pool.web.group]]\ncommand = "a"\nbackends = {written}').pool["web"]
    assert (alone.backend_count, grouped.backend_count) == (5, 5)
    # Another way to say it is no change.
    assert (alone.backends, grouped.group[0].backends) == ("auto", "auto")


def test_where_requests_go_that_no_route_takes() -> None:
    one = '[pool.web]\ncommand = "a"\n'
    assert _settings(one).default_pool("web") == "web"
    routed = _settings(one + '[[route]]\npath = "/x/"\npool = "web"\n')
    assert routed.default_pool("web") == ""
    assert routed.reached_pools == {"web"}
    two = _settings(one + '[pool.api]\ncommand = "a"\n[listen.b]\npool = "api"\n[[route]]\nhost = "a.b"\npool = "web"')
    assert (two.default_pool("web"), two.default_pool("b")) == ("", "api")


def test_settings_are_frozen_and_equal_by_value() -> None:
    text = '[pool.web]\ncommand = "a"\n'
    assert _settings(text) == _settings(text)
    with pytest.raises(ValueError, match="frozen"):
        _settings(text).pool["web"].weight = 3


def test_every_key_says_what_it_is() -> None:
    def silent(section: type[BaseModel]) -> list[str]:
        return [name for name, field in section.model_fields.items() if not field.description]

    assert not [(header, silent(section)) for header, section in tables() if silent(section)]
