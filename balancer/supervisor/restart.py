"""When a backend that went away is started again: later each time, and perhaps not at all. Pure.

An app that dies at once must not become a fork storm; one that ran well for a while begins anew with the short delay.
"""

from collections import deque
from dataclasses import dataclass, field
from typing import Final

WINDOW: Final = 60.0  # seconds within which `max_crashes` are counted
JITTER: Final = 0.1  # so that many slots that fell together do not come back together


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """`[pool.NAME.restart]`; seconds. max_crashes 0: never give up."""

    delay: float
    max_delay: float
    healthy_after: float
    max_crashes: int = 0


@dataclass(slots=True)
class RestartHistory:
    """What one slot went through."""

    next_delay: float = 0.0
    crashes: deque[float] = field(default_factory=deque)

    def after_crash(self, policy: RestartPolicy, now: float, ran: float, dice: float) -> float | None:
        """Seconds to wait before the next start; None: hold.

        now: a steady clock; ran: seconds that the process took requests, 0 if it never did; dice: 0 to 1, the jitter.
        """
        self.crashes.append(now)
        while self.crashes and self.crashes[0] <= now - WINDOW:
            self.crashes.popleft()
        if policy.max_crashes and len(self.crashes) >= policy.max_crashes:
            return None
        if ran >= policy.healthy_after or not self.next_delay:
            self.next_delay = policy.delay
        delay = min(self.next_delay, policy.max_delay)
        self.next_delay = min(delay * 2, policy.max_delay)
        return delay * (1 + JITTER * (2 * dice - 1))

    def forget(self) -> None:
        """Begin anew: an operator or a rollout wants it to be tried."""
        self.next_delay = 0.0
        self.crashes.clear()
