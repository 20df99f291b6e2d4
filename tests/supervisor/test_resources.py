"""What processes cost, read from /proc."""

import os
import time

import pytest

from balancer.supervisor.resources import Usage, start_time


def test_a_share_of_cpu_is_known_from_the_first_question_on() -> None:
    found = Usage(lambda id: None).of(os.getpgrp())  # noqa: A006
    assert found is not None
    assert 0 <= found.cpu_percent < 100 * (os.cpu_count() or 1)
    assert found.memory_bytes > 1_000_000


def test_a_process_that_is_gone_costs_nothing() -> None:
    assert Usage(lambda id: None).of(2**22) is None  # noqa: A006
    assert start_time(2**22) == 0
    assert start_time(os.getpid()) == pytest.approx(time.time() - time.process_time(), abs=600)
