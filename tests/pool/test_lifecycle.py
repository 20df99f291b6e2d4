"""The three axes: only what the table allows happens, and only one combination takes requests."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from balancer.pool.backend import Backend, BackendId
from balancer.pool.health import Streak
from balancer.pool.lifecycle import TRANSITIONS, Health, ImpossibleStep, Intent, Phase, Step, after, takes_requests


class Axes(RuleBasedStateMachine):
    """Three owners write their own axis in any order; none may undo what another one said."""

    def __init__(self) -> None:
        super().__init__()
        self.backend = Backend(BackendId("web-0", 1), "web", "", "127.0.0.1", 9000, 0, 1, False, 0.0)
        self.streak = Streak()
        self.exits_after_start = 0

    @rule(step=st.sampled_from(Step))
    def owner_of_the_process(self, step: Step) -> None:
        before = self.backend.phase
        if (before, step) in TRANSITIONS:
            self.backend.step(step)
        else:
            with pytest.raises(ImpossibleStep):
                self.backend.step(step)
            assert self.backend.phase is before

    @rule(passed=st.booleans())
    def probe(self, passed: bool) -> None:
        phase, intent = self.backend.phase, self.backend.intent
        if self.streak.observe(passed, 2, 3):
            self.backend.health = self.streak.verdict
        # A probe that passes must not end a drain.
        assert (self.backend.phase, self.backend.intent) == (phase, intent)

    @rule(intent=st.sampled_from(Intent))
    def whoever_wants_it_in_or_out(self, intent: Intent) -> None:
        self.backend.intent = intent

    @invariant()
    def takes_requests_only_when_all_three_agree(self) -> None:
        backend = self.backend
        agree = (backend.phase, backend.health, backend.intent) == (Phase.RUNNING, Health.HEALTHY, Intent.SERVE)
        assert backend.takes_requests is agree


TestAxes = Axes.TestCase


def test_a_backend_starts_down() -> None:
    backend = Backend(BackendId("web-0", 1), "web", "", "127.0.0.1", 9000, 0, 1, False, 0.0)
    assert not backend.takes_requests
    assert not takes_requests(Phase.RUNNING, Health.UNKNOWN, Intent.SERVE)


def test_every_phase_can_be_left_and_every_life_can_end() -> None:
    for phase in Phase:
        assert any(before is phase for before, _ in TRANSITIONS)
    living = {Phase.STARTING, Phase.RUNNING, Phase.STOPPING}
    for phase in living:
        assert after(phase, Step.EXIT) is Phase.STOPPED
