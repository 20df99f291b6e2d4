"""When single results make a verdict: one streak, counted only against the verdict that stands, reset by agreement.

The way of pingora's `observe_health` and HAProxy's rise and fall.
"""

from balancer.pool.lifecycle import Health


class Streak:
    """Turns probe results into a verdict. Begins as unknown: the first pass makes it healthy."""

    def __init__(self) -> None:
        self.verdict = Health.UNKNOWN
        self.length = 0

    def observe(self, passed: bool, rise: int, fall: int) -> bool:
        """Take one result; True if the verdict changed.

        rise: passes in a row until healthy again; fall: failures in a row until unhealthy. Both at least 1, and given
        with each result because a reload may change them.
        """
        agrees = Health.HEALTHY if passed else Health.UNHEALTHY
        if self.verdict is agrees:
            self.length = 0
            return False
        if self.verdict is Health.UNKNOWN and passed:
            return self._judge(agrees)
        if self.verdict is Health.UNKNOWN:
            self.length += 1
            return self._judge(agrees) if self.length >= fall else False
        self.length += 1
        return self._judge(agrees) if self.length >= (rise if passed else fall) else False

    def _judge(self, verdict: Health) -> bool:
        self.verdict = verdict
        self.length = 0
        return True
