from collections.abc import Iterator
from typing import Any, get_args, get_origin

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from balancer.settings.changes import Change, Changes, changes
from balancer.settings.effects import EFFECTS, Effect, effect_of
from balancer.settings.load import read
from balancer.settings.model import Settings

_HEAD = '[listen.web]\naddress = "127.0.0.1:8080"\npool = "web"\n'
_POOL = '[pool.web]\ncommand = "app"\n'


def _settings(text: str, head: str = _HEAD) -> Settings:
    return read(head + text, on_this_machine=False, environ={})


def _leaves(section: type[BaseModel], pattern: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the model, names and numbers as "*"."""
    for name, field in section.model_fields.items():
        kind, below = field.annotation, (*pattern, name)
        tables = [a for a in (kind, *get_args(kind)) if isinstance(a, type) and issubclass(a, BaseModel)]
        if tables:
            yield from _leaves(tables[0], (*below, "*") if get_origin(kind) in (dict, tuple) else below)
        else:
            yield below


def test_every_key_of_the_model_has_its_effect() -> None:
    # A key that is new must be given a row in effects.py: what does changing it cost?
    assert set(_leaves(Settings)) == set(EFFECTS)


def test_a_table_costs_what_its_dearest_key_costs() -> None:
    assert effect_of(("listen", "*")) is Effect.RESTART
    assert effect_of(("listen", "*", "tls")) is Effect.LIVE
    assert effect_of(("pool", "*", "limits")) is Effect.RESPAWN
    assert effect_of(("pool", "*", "limits", "memory")) is Effect.LIVE  # looked at from outside
    with pytest.raises(KeyError):
        effect_of(("listen", "*", "nothing"))


_WEIGHTS = st.integers(0, 3)
_POOLS = st.dictionaries(
    st.sampled_from("abc"),
    st.tuples(st.sampled_from(["x", "y"]), _WEIGHTS, st.sampled_from([1, 2, '"auto"']), st.sampled_from(["1s", "2s"])),
    min_size=1,
)


def _pools(pools: dict[str, Any]) -> Settings:
    text = ""
    for name, (command, weight, backends, timeout) in pools.items():
        text += f'[listen.{name}]\naddress = "127.0.0.1:0"\npool = "{name}"\n[pool.{name}]\ncommand = "{command}"\n'
        text += f'weight = {weight}\nbackends = {backends}\nconnect_timeout = "{timeout}"\n'
    return _settings(text, head="")


@given(_POOLS, _POOLS)
def test_changes_tell_the_difference_and_only_that(old: dict[str, Any], new: dict[str, Any]) -> None:
    found = changes(_pools(old), _pools(new))
    assert found.is_empty == (old == new)
    both = [name for name in new if name in old]
    assert set(found.pools_added) == new.keys() - old.keys()
    assert set(found.pools_removed) == old.keys() - new.keys()
    assert found.respawn_pools == tuple(name for name in both if old[name][0] != new[name][0])
    assert [c.pool for c in found.counts] == [name for name in both if old[name][2] != new[name][2]]
    live = [(c.key, c.pool) for c in found.live]
    assert {k for k in live if k[0].endswith("weight")} == {
        (f"pool.{n}.weight", n) for n in both if old[n][1] != new[n][1]
    }
    back = changes(_pools(new), _pools(old))
    both_ways = [{c for c in of.live if not c.key.startswith("listen.")} for of in (found, back)]
    assert {(c.key, c.new, c.old) for c in both_ways[1]} == {(c.key, c.old, c.new) for c in both_ways[0]}
    # One that comes is opened, one that goes is kept until a restart.
    assert {c.key for c in found.live} - {c.key for c in both_ways[0]} == {
        f"listen.{n}" for n in new.keys() - old.keys()
    }
    assert {c.key for c in found.restart} == {f"listen.{n}" for n in old.keys() - new.keys()}


def test_values_are_shown_as_the_file_writes_them() -> None:
    new = _settings(
        '[pool.web]\ncommand = "app -x"\nresponse_timeout = "90s"\nhealth.path = "/h"\nhealth.status = "200"\n'
        '[proxy]\nmax_body_size = "1MiB"\nprocesses = 2\n[log]\nformat = "json"\naccess = "stderr"\n'
    )
    found = changes(_settings(_POOL), new)
    assert found.live == (
        Change("proxy.max_body_size", '"unlimited"', '"1MiB"'),
        Change("pool.web.response_timeout", '"1m"', '"1m30s"', "web"),
        Change("pool.web.health.path", '""', '"/h"', "web"),
        Change("pool.web.health.status", '"200-399"', '"200"', "web"),
        Change("log.access", '"off"', '"stderr"'),
    )
    assert found.respawn == (Change("pool.web.command", '"app"', '"app -x"', "web"),)
    assert found.restart == (Change("proxy.processes", '"auto"', "2"), Change("log.format", '"text"', '"json"'))


def test_the_environment_is_compared_but_never_shown() -> None:
    found = changes(_settings(_POOL + 'env = {A = "1", B = "old"}'), _settings(_POOL + 'env = {B = "secret", C = "3"}'))
    assert [(c.key, bool(c.old), bool(c.new)) for c in found.respawn] == [
        ("pool.web.env.A", True, False),
        ("pool.web.env.B", True, True),
        ("pool.web.env.C", False, True),
    ]
    assert "secret" not in repr(found)


def test_listeners_and_routes() -> None:
    more = '[listen.b]\naddress = "127.0.0.1:8081"\n[[route]]\npath = "/b/"\npool = "web"\n'
    found = changes(_settings(_POOL), _settings(_POOL + more))
    added = Change("listen.b", "", '"127.0.0.1:8081"')
    assert found.live == (added, Change("route", "", "*/b/ → web"))
    # The socket of one that is called differently now is still the old one's.
    renamed = changes(_settings(_POOL), _settings(_POOL, head=_HEAD.replace("listen.web", "listen.b")))
    assert [c.key for c in renamed.restart] == ["listen.web", "listen.b"]
    for mode in ("shared", "pass"):
        elsewhere = f'[pool.web]\ncommand = "app"\nmode = "{mode}"\n'
        listener = more.partition("[[")[0] + 'pool = "web"\n'
        assert added in changes(_settings(elsewhere), _settings(elsewhere + listener)).restart
        assert added in changes(_settings(elsewhere), _settings(_POOL + listener)).restart


def test_groups() -> None:
    explicit = '[[pool.web.group]]\ncommand = "app"\n'
    assert changes(_settings(_POOL), _settings(explicit)) == Changes()
    heavier = changes(_settings(_POOL), _settings(explicit + "weight = 5\nbackends = 2\n"))
    assert heavier.live == (Change("pool.web.group[0].weight", "1", "5", "web"),)
    assert heavier.counts == (Change("pool.web.group[0].backends", "1", "2", "web"),)
    added = changes(_settings(explicit), _settings(explicit + '[[pool.web.group]]\ncommand = "other"\n'))
    assert added.respawn == (Change("pool.web.group", "app", "app, other", "web"),)
    elsewhere = '[[pool.web.group]]\naddress = "10.0.0.7:80"\n'
    moved = changes(_settings(elsewhere), _settings(elsewhere.replace("80", "81")))
    assert moved.live == (Change("pool.web.group[0].address", '"10.0.0.7:80"', '"10.0.0.7:81"', "web"),)
    assert not moved.respawn
