"""What a reload of a file would do to the running balancer: nothing is changed to find out."""

from typing import TYPE_CHECKING, Any

from balancer.settings.changes import Change, changes
from balancer.settings.model import Settings
from balancer.supervisor.wanted import wanted_slots

if TYPE_CHECKING:
    from balancer.supervisor.truth import Truth

Told = dict[str, str]  # "key", "old", "new", each as the file writes it


def prediction(truth: "Truth", new: Settings) -> dict[str, Any]:
    """{"live": [{"key", "old", "new"}], "backends": {pool: […]}, "restart": […]}: what applies at once, what needs new backends,
    and what is left until the balancer is restarted. A pool that comes or goes is a change of its backends.
    """
    old = truth.settings
    found = changes(old, new)
    backends: dict[str, list[Told]] = {}
    for change in (*found.counts, *found.respawn):
        backends.setdefault(change.pool, []).append(_told(change))
    for name in found.pools_added:
        backends[name] = [{"key": f"pool.{name}", "old": "", "new": _backends(new.pool[name].backend_count)}]
    for name in found.pools_removed:
        backends[name] = [{"key": f"pool.{name}", "old": _backends(old.pool[name].backend_count), "new": ""}]
    live = [_told(change) for change in found.live] + _by_hand(truth, new)
    return {"live": live, "backends": backends, "restart": [_told(change) for change in found.restart]}


def _by_hand(truth: "Truth", new: Settings) -> list[Told]:
    """What operators have changed and a reload ends."""
    told: list[Told] = []
    for name, pool in new.pool.items():
        weights = {one.number: one.care.weight for one in wanted_slots(pool)}
        before = {one.number: one.care.weight for one in wanted_slots(truth.settings.pool.get(name, pool))}
        for slot in truth.slots.get(name, ()):
            # A weight that only follows the file is a change of the file's key.
            if slot.index in weights and slot.care.weight not in (weights[slot.index], before.get(slot.index)):
                told.append(
                    {"key": f"weight of {slot.name}", "old": str(slot.care.weight), "new": str(weights[slot.index])}
                )
            if slot.index in weights and slot.is_drained:
                told.append({"key": slot.name, "old": "drained by hand", "new": "in rotation"})
    return told


def _told(change: Change) -> Told:
    return {"key": change.key, "old": change.old, "new": change.new}


def _backends(count: int) -> str:
    return f"{count} {'backend' if count == 1 else 'backends'}"
