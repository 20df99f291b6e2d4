"""Which group of a pool a request goes to: exact shares, and groups that only take what is meant for them (canaries).

A group with a share gets exactly that part of the requests, however many backends it has; one that names a header or a cookie gets
the requests that carry it; the rest goes to the groups with neither, by their backends' weights. A group without a
backend that takes requests gives its part to the others.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final, Generic, NamedTuple, Protocol, TypeVar

from balancer.pool.latency import Latency
from balancer.pool.selection import Candidate, Policy, SmoothRoundRobin

_PARTS: Final = 1000  # shares are exact to a tenth of a percent
REST: Final = ""  # the groups with neither share nor rule, together


class Member(Candidate, Protocol):
    """A backend that belongs to a group."""

    @property
    def group(self) -> str:
        """The group's name."""
        ...


M = TypeVar("M", bound=Member)


class Rule(NamedTuple):
    """What a group takes."""

    name: str
    share: float  # of the requests that no rule sends elsewhere, 0 to 1
    header: str  # "Name" or "Name: value"; "" for none
    cookie: str  # "name" or "name=value"; "" for none

    @property
    def is_special(self) -> bool:
        """Whether it is not simply part of the rest."""
        return bool(self.share or self.header or self.cookie)


class _Part(Generic[M]):
    """One group's backends and whose turn it is among them; a candidate itself in the choice of a group."""

    latency = Latency()
    load = 0

    def __init__(self, name: str, policy: Policy[M]) -> None:
        self.name = name
        self.policy = policy
        self.weight = 0


class GroupSplit(Generic[M]):
    """Chooses a group first, then asks that group's own policy."""

    def __init__(self, rules: Sequence[Rule], make: Callable[[], Policy[M]]) -> None:
        self._rules = {rule.name: rule for rule in rules if rule.is_special}
        self._make = make
        self._parts: dict[str, _Part[M]] = {}
        self._turns: SmoothRoundRobin[_Part[M]] = SmoothRoundRobin()

    def offer(self, candidates: Sequence[M]) -> None:
        """Choose among these from now on."""
        members: dict[str, list[M]] = {}
        for candidate in candidates:
            members.setdefault(candidate.group if candidate.group in self._rules else REST, []).append(candidate)
        left = _PARTS
        for name in members:
            part = self._parts.get(name)
            if part is None:
                part = self._parts[name] = _Part(name, self._make())
            part.policy.offer(members[name])
            if name != REST:
                part.weight = round(self._rules[name].share * _PARTS)
                left -= part.weight
        for name in list(self._parts.keys() - members.keys()):
            del self._parts[name]
        if REST in self._parts:
            self._parts[REST].weight = max(0, left)
        self._turns.offer([part for part in self._parts.values() if part.weight])

    def choose(self, tried: Collection[M], key: bytes = b"", group: str = "") -> M | None:
        """The next one; `group`: the one that a rule names for this request, which has precedence."""
        meant = self._parts.get(group) if group else None
        if meant is not None:
            chosen = meant.policy.choose(tried, key)
            if chosen is not None:
                return chosen
        part = self._turns.choose(())
        if part is not None:
            chosen = part.policy.choose(tried, key)
            if chosen is not None:
                return chosen
        # Its turn has nobody left to try: anybody else's will do, the rest first.
        for other in sorted(self._parts.values(), key=lambda p: -p.weight):
            chosen = other.policy.choose(tried, key)
            if chosen is not None:
                return chosen
        return None
