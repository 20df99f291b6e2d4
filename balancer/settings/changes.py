"""What a reload must do: the difference between two settings, sorted by what it costs. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pydantic.fields import FieldInfo

from balancer.settings.effects import Effect, Pattern, effect_of
from balancer.settings.fields import Written
from balancer.settings.model import Route, Settings
from balancer.settings.model_pool import Group, Pool
from balancer.settings.problems import Key, dotted
from balancer.settings.section import Section

# A pool without [[group]] is one with a single group; these are that group's keys, and compared there.
_OF_GROUPS = ("command", "backends", "weight", "backup", "cwd", "env", "user", "group")
_HIDDEN = "(not shown)"


@dataclass(frozen=True, slots=True)
class Change:
    """One key, and what stood and stands there as the file writes it; "" where there is nothing. `pool` is "" outside of pools."""

    key: str
    old: str
    new: str
    pool: str = ""


@dataclass(frozen=True, slots=True)
class Changes:
    """Everything that differs. Pools that are new or gone are only named; nothing about their keys is listed."""

    live: tuple[Change, ...] = ()
    counts: tuple[Change, ...] = ()  # numbers of backends: some start or leave, the others stay
    respawn: tuple[Change, ...] = ()
    restart: tuple[Change, ...] = ()
    pools_added: tuple[str, ...] = ()
    pools_removed: tuple[str, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return self == Changes()

    @property
    def respawn_pools(self) -> tuple[str, ...]:
        """The pools whose backends must be replaced, in the file's order."""
        return tuple(dict.fromkeys(change.pool for change in self.respawn))


def changes(old: Settings, new: Settings) -> Changes:
    """From what runs to what the file says now; the order within each group is the model's."""
    by_effect: dict[Effect, list[Change]] = {effect: [] for effect in Effect}
    for effect, change in _all(old, new):
        by_effect[effect].append(change)
    return Changes(
        live=tuple(by_effect[Effect.LIVE]),
        counts=tuple(by_effect[Effect.COUNT]),
        respawn=tuple(by_effect[Effect.RESPAWN]),
        restart=tuple(by_effect[Effect.RESTART]),
        pools_added=tuple(name for name in new.pool if name not in old.pool),
        pools_removed=tuple(name for name in old.pool if name not in new.pool),
    )


def is_openable(name: str, old: Settings, new: Settings) -> bool:
    """Whether a listener that only the new settings have can be opened while the balancer runs.

    Not on an address that another one holds until a restart; nor where others than the proxies accept, which is settled when those start.
    """
    address, pool = new.listen[name].address, new.default_pool(name)
    is_free = address not in [listener.address for listener in old.listen.values()] or not (
        address.is_unix or address.port
    )
    return is_free and all(s.pool[pool].mode == "proxy" for s in (old, new) if pool in s.pool)


def _all(old: Settings, new: Settings) -> Iterator[tuple[Effect, Change]]:
    for name in dict.fromkeys((*old.listen, *new.listen)):
        before, after = old.listen.get(name), new.listen.get(name)
        if before and after:
            hidden: tuple[str, ...] = ()
            if old.mode(name) != new.mode(name):
                # Live otherwise; but who accepts on a listener is settled when it is bound.
                hidden = ("pool",)
                pools = [f'"{settings.default_pool(name)}"' for settings in (old, new)]
                yield Effect.RESTART, Change(dotted(("listen", name, "pool")), *pools)
            yield from _section(before, after, ("listen", name), ("listen", "*"), without=hidden)
        else:
            texts = [f'"{listener.address}"' if listener else "" for listener in (before, after)]
            effect = Effect.LIVE if after and is_openable(name, old, new) else Effect.RESTART
            yield effect, Change(dotted(("listen", name)), *texts)
    yield from _section(old.proxy, new.proxy, ("proxy",), ("proxy",))
    if old.route != new.route:
        yield effect_of(("route",)), Change("route", _routes(old.route), _routes(new.route))
    for name, pool in new.pool.items():
        if name in old.pool:
            for effect, change in _pool(old.pool[name], pool, ("pool", name)):
                yield effect, Change(change.key, change.old, change.new, pool=name)
    yield from _section(old.dns, new.dns, ("dns",), ("dns",))
    yield from _section(old.admin, new.admin, ("admin",), ("admin",))
    yield from _section(old.log, new.log, ("log",), ("log",))


def _pool(old: Pool, new: Pool, key: Key) -> Iterator[tuple[Effect, Change]]:
    before, after = old.groups, new.groups
    if len(before) != len(after) or any(b.is_spawned != a.is_spawned for b, a in zip(before, after, strict=True)):
        # Which group became which cannot be told.
        spawned = any(group.is_spawned for group in before + after)
        effect = Effect.RESPAWN if spawned else Effect.LIVE
        yield effect, Change(dotted((*key, "group")), _groups(before), _groups(after))
    else:
        for index, (one, other) in enumerate(zip(before, after, strict=True)):
            place: Key = (*key, "group", index) if new.group else key
            yield from _section(one, other, place, ("pool", "*", "group", "*"))
    yield from _section(old, new, key, ("pool", "*"), without=_OF_GROUPS)


def _section(
    old: Section, new: Section, key: Key, pattern: Pattern, without: tuple[str, ...] = ()
) -> Iterator[tuple[Effect, Change]]:
    for name, field in type(new).model_fields.items():
        before, after = getattr(old, name), getattr(new, name)
        if name in without or before == after:
            continue
        if name == "env":
            yield from _env(before, after, (*key, name), effect_of((*pattern, name)))
        elif isinstance(before, Section) and isinstance(after, Section):
            yield from _section(before, after, (*key, name), (*pattern, name))
        else:
            change = Change(dotted((*key, name)), _shown(before, field), _shown(after, field))
            yield effect_of((*pattern, name)), change


def _env(old: dict[str, str], new: dict[str, str], key: Key, effect: Effect) -> Iterator[tuple[Effect, Change]]:
    """Variable by variable, and never a value: they are where passwords are."""
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            texts = [_HIDDEN if name in variables else "" for variables in (old, new)]
            yield effect, Change(dotted((*key, name)), *texts)


def _shown(value: Any, field: FieldInfo) -> str:
    written = next((m for m in field.metadata if isinstance(m, Written)), None)
    if written is not None:
        return written.show(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join("{…}" if isinstance(item, Section) else f'"{item}"' for item in value) + "]"
    return "{…}" if isinstance(value, Section) else "" if value is None else str(value)


def _routes(routes: tuple[Route, ...]) -> str:
    return ", ".join(f"{route.host or '*'}{route.path} → {route.pool}" for route in routes)


def _groups(groups: tuple[Group, ...]) -> str:
    return ", ".join(str(group.address) if group.address else group.command[0] for group in groups)
