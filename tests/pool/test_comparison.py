"""The comparison of two releases: literal where it is clear, silent where chance could have made it."""

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.pool.comparison import EARLY, Margins, Sample, Verdict, compare

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
MARGINS = Margins()


def took(requests: int, seconds: float, errors: int = 0) -> Sample:
    """So many requests that took about so long each."""
    return replace(Sample().waiting([seconds] * requests, BOUNDS), errors=errors)


def verdict(new: Sample, old: Sample, margins: Margins = MARGINS, certainty: float = 2.0) -> Verdict:
    return compare(new, old, margins, BOUNDS, certainty)[0]


samples = st.builds(took, st.integers(0, 500), st.floats(0.0, 5.0)).flatmap(
    lambda s: st.integers(0, s.requests).map(lambda errors: replace(s, errors=errors))
)


@given(samples)
def test_what_does_the_same_is_never_worse(sample: Sample) -> None:
    assert verdict(sample, sample) is (Verdict.GOOD if sample.requests >= 20 else Verdict.INCONCLUSIVE)


@given(samples, samples)
def test_only_one_of_two_can_be_worse(one: Sample, other: Sample) -> None:
    # By errors the one and by time the other may be: errors are what is looked at first.
    if verdict(replace(one, errors=0), replace(other, errors=0)) is Verdict.WORSE:
        assert verdict(replace(other, errors=0), replace(one, errors=0)) is Verdict.GOOD


@given(samples, samples, samples)
def test_windows_add_up(one: Sample, two: Sample, three: Sample) -> None:
    total = one + two + three - two
    assert (total.requests, total.errors) == (one.requests + three.requests, one.errors + three.errors)
    assert total.buckets == (one + three).buckets


@pytest.mark.parametrize(
    ("new", "old", "expected"),
    [
        (took(90, 0.02, 14), took(910, 0.02), Verdict.WORSE),
        (took(20, 0.02, 4), took(80, 0.02), Verdict.WORSE),
        (took(20, 0.02, 2), took(80, 0.02), Verdict.WORSE),
        (took(20, 0.02, 1), took(80, 0.02), Verdict.GOOD),  # exactly the margin is not more than it
        (took(100, 0.02, 100), took(400, 0.02, 400), Verdict.GOOD),  # the database is down
        (took(25, 0.02, 15), took(100, 0.02, 50), Verdict.GOOD),  # a shared trouble, and chance
        (took(19, 0.02, 19), took(400, 0.02), Verdict.INCONCLUSIVE),
        (took(400, 0.02, 400), took(19, 0.02), Verdict.INCONCLUSIVE),
        (took(50, 0.2), took(200, 0.02), Verdict.WORSE),
        (took(50, 0.035), took(200, 0.02), Verdict.GOOD),
        (took(50, 0.002), took(200, 0.0005), Verdict.GOOD),  # a cold cache
        (took(50, 0.02) + took(2, 5.0), took(200, 0.02), Verdict.GOOD),  # two that took long
        (took(50, 0.2), took(200, 0.2), Verdict.GOOD),
    ],
)
def test_verdicts(new: Sample, old: Sample, expected: Verdict) -> None:
    assert verdict(new, old) is expected


def test_the_sentence_gives_the_numbers() -> None:
    _, text = compare(took(90, 0.02, 14), took(910, 0.02), MARGINS, BOUNDS)
    assert text == "14 of 90 requests failed (15.6%), 0 of 910 (0.0%) on the old ones"
    _, text = compare(took(90, 0.2), took(910, 0.02), MARGINS, BOUNDS)
    assert text.startswith("responses took 200 ms on the mean and 24")
    assert "20 ms and 24." in text
    _, text = compare(took(3, 0.2), took(910, 0.02), MARGINS, BOUNDS)
    assert text == "3 requests on the new ones, fewer than rollout.min_requests = 20"


def test_a_slow_start_is_no_early_verdict() -> None:
    old = took(200, 0.02)
    for new in (took(30, 0.2), took(50, 0.07)):
        assert verdict(new, old) is Verdict.WORSE
        assert verdict(new, old, certainty=EARLY) is Verdict.GOOD
    assert verdict(took(50, 0.2), old, certainty=EARLY) is Verdict.WORSE


def test_requests_without_an_answer_count_as_slow_ones() -> None:
    assert verdict(Sample(), took(200, 0.02)) is Verdict.INCONCLUSIVE
    assert verdict(Sample().waiting([0.5 + 0.1 * i for i in range(30)], BOUNDS), took(200, 0.02)) is Verdict.WORSE


@pytest.mark.parametrize("rate", [0.0, 0.02, 0.3, 0.5, 0.9, 1.0])
def test_equally_bad_releases_are_seldom_told_apart(rate: float) -> None:
    dice = random.Random(7)
    false = {2.0: 0, EARLY: 0}
    for _ in range(1000):
        new, old = (took(n, 0.02, sum(dice.random() < rate for _ in range(n))) for n in (25, 100))
        for certainty in false:
            false[certainty] += verdict(new, old, certainty=certainty) is Verdict.WORSE
    assert false[2.0] <= 40
    assert false[EARLY] <= 5
