"""Why a backend process ended, and which requests keep ending backends. Pure but for reading a kernel counter."""

import os
import signal
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any, Final

MOST_SUSPECTS: Final = 500  # kinds of requests remembered per pool; the one seen longest ago goes
SHOWN: Final = 10  # kinds of requests named per pool

# Signals that somebody sends to a process; any other that ends one is its own mistake.
_FROM_OUTSIDE: Final = frozenset(
    {
        *(signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM),
        *(signal.SIGUSR1, signal.SIGUSR2),
    }
)
_OOM_TIME: Final = 1.0  # seconds within which all processes that were killed are the same shortage's


def is_own_doing(returncode: int, out_of_memory: bool) -> bool:
    """Whether a process that nobody had asked to leave ended by itself.

    returncode: as in `spawn.Process`; 128 + n is how shells, Java and Node.js say that they or their child got signal n.
    out_of_memory: the kernel says that it killed for want of memory, which is the process's own doing too.
    """
    number = -returncode if returncode < 0 else returncode - 128
    if number == signal.SIGKILL and out_of_memory:
        return True
    return number not in _FROM_OUTSIDE


class OutOfMemory:
    """Whether the kernel has killed for want of memory lately, by the counter `oom_kill` of our cgroup or of the machine."""

    def __init__(self, source: Path | None = None) -> None:
        """source: a file with a line `oom_kill N`; by default the most precise one that there is."""
        self._source = source or _oom_source()
        self._seen = self._count()
        self._until = 0.0

    def happened(self, now: float) -> bool:
        """Since it was last asked, or within the last second. now: CLOCK_MONOTONIC seconds."""
        count = self._count()
        if count > self._seen:
            self._until = now + _OOM_TIME
        self._seen = count
        return now < self._until

    def _count(self) -> int:
        try:
            fields = dict(line.split()[:2] for line in self._source.read_text().splitlines())
            return int(fields.get("oom_kill", 0))
        except (OSError, ValueError):
            return 0


def _oom_source() -> Path:
    """cgroup v2 `memory.events`, v1 `memory.oom_control`, else /proc/vmstat (since Linux 4.13), which counts for all."""
    found = []
    try:
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                found.append(f"/sys/fs/cgroup/{path}/memory.events")
            elif "memory" in controllers.split(","):
                # In a container its own cgroup is often mounted as if it were the root.
                found += [f"/sys/fs/cgroup/memory/{place}/memory.oom_control" for place in (path, "")]
    except (OSError, ValueError):
        pass
    return next((Path(path) for path in map(os.path.normpath, found) if os.path.isfile(path)), Path("/proc/vmstat"))


@dataclass(slots=True)
class Suspect:
    """A kind of request ("METHOD /path") that was in flight when backends crashed."""

    fingerprint: str
    crashes: int = 0  # at which it was in flight
    alone: int = 0  # of those, with nothing beside it
    acquitted: int = 0  # of those, after which a request of this kind was answered
    seconds: float = 0.0  # since when it had been in flight, all crashes together

    @property
    def guilt(self) -> int:
        """Crashes that speak against it."""
        return max(0, self.crashes - self.acquitted)

    def to_json(self) -> dict[str, Any]:
        """As the status and the events give it."""
        return {
            "request": self.fingerprint,
            "crashes": self.crashes,
            "alone": self.alone,
            "acquitted": min(self.acquitted, self.crashes),
        }

    @property
    def rank(self) -> tuple[int, float]:
        """Sorts the likeliest first: alone counts twice, and what kills most often does so soon."""
        return -(self.guilt + self.alone), self.seconds / max(1, self.crashes)


class Attribution:
    """The suspects of every pool, and which of them are in quarantine."""

    def __init__(self) -> None:
        self._suspects: dict[str, dict[str, Suspect]] = {}
        self._quarantined: dict[str, dict[str, float]] = {}  # until when, CLOCK_MONOTONIC seconds

    def crashed(self, pool: str, requests: Collection[Mapping[str, Any]], count: int) -> list[Suspect]:
        """A backend ended by its own doing; requests: as the proxies name them; count: how many there were in all.

        Returns the suspects among them, the likeliest first.
        """
        suspects = self._suspects.setdefault(pool, {})
        present: dict[str, Suspect] = {}
        for request in requests:
            fingerprint = f"{request.get('method', '')} {request.get('path', '')}"
            suspect = suspects.pop(fingerprint, None) or Suspect(fingerprint)
            suspects[fingerprint] = suspect
            if fingerprint not in present:
                present[fingerprint] = suspect
                suspect.crashes += 1
                suspect.alone += count == 1
                suspect.seconds += float(request.get("seconds", 0.0))
        while len(suspects) > MOST_SUSPECTS:
            del suspects[next(iter(suspects))]
        return sorted(present.values(), key=lambda suspect: suspect.rank)

    def acquit(self, pool: str, fingerprint: str, crashes: int) -> None:
        """A request of this kind was answered after so many crashes at which one was present.

        That word may come before the crash is held against it: where another backend answers at once.
        """
        self._suspects.setdefault(pool, {}).setdefault(fingerprint, Suspect(fingerprint)).acquitted += crashes

    def suspects(self, pool: str) -> list[Suspect]:
        """The likeliest first; those that nothing speaks against any more are left out."""
        found = [suspect for suspect in self._suspects.get(pool, {}).values() if suspect.guilt]
        return sorted(found, key=lambda suspect: suspect.rank)[:SHOWN]

    def quarantine(self, pool: str, suspects: Iterable[Suspect], after: int, until: float) -> list[str]:
        """Refuse those whose guilt has reached `after` (0: none) until then; the fingerprints that are new in it."""
        held = self._quarantined.setdefault(pool, {})
        guilty = [suspect.fingerprint for suspect in suspects if after and suspect.guilt >= after]
        new = [fingerprint for fingerprint in guilty if fingerprint not in held]
        held.update(dict.fromkeys(guilty, until))
        return new

    def quarantined(self, pool: str) -> tuple[str, ...]:
        """The fingerprints that this pool refuses."""
        return tuple(self._quarantined.get(pool, ()))

    def release(self, now: float) -> list[tuple[str, str]]:
        """Let go those whose time is over; their pools and fingerprints."""
        over = [(p, f) for p, held in self._quarantined.items() for f, until in held.items() if until <= now]
        for pool, fingerprint in over:
            del self._quarantined[pool][fingerprint]
        return over

    def next_release(self) -> float:
        """When the next one's time is over, CLOCK_MONOTONIC seconds; infinity when there is none."""
        return min((until for held in self._quarantined.values() for until in held.values()), default=inf)
