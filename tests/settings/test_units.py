import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.settings import units


@given(st.integers(0, 3650 * 86_400 * 1_000_000))
def test_durations_round_trip(microseconds: int) -> None:
    seconds = microseconds / 1_000_000
    text = units.format_duration(seconds)
    assert units.parse_duration(text) == seconds
    assert re.search(units.DURATION_PATTERN, text)


@given(st.integers(0, units.LARGEST))
def test_sizes_round_trip(size: int) -> None:
    # Beyond a million million of the smallest unit the text would be longer than the parser takes.
    text = units.format_size(size)
    if len(text) <= 13:
        assert units.parse_size(text) == size
        assert re.search(units.SIZE_PATTERN, text)


@given(st.integers(0, 100_000))
def test_percentages_round_trip(thousandths: int) -> None:
    share = thousandths / 100_000
    text = units.format_percentage(share)
    assert units.parse_percentage(text) == share
    assert re.search(units.PERCENTAGE_PATTERN, text)


@given(st.integers(0, 10_000_000))
def test_excesses_round_trip(thousandths: int) -> None:
    excess = thousandths / 100_000
    text = units.format_percentage(excess)
    assert units.parse_excess(text) == excess
    assert re.search(units.EXCESS_PATTERN, text)


@pytest.mark.parametrize("value", ["", "100", "10001%", "-1%", 1, None])
def test_what_is_no_excess(value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        units.parse_excess(value)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("5s", 5.0), ("1m30s", 90.0), ("2h", 7200.0), ("365d", 31_536_000.0), ("0s", 0.0), ("1.5s", 1.5)],
)
def test_durations(text: str, seconds: float) -> None:
    assert units.parse_duration(text) == seconds


@pytest.mark.parametrize(
    "value",
    [
        "",
        "5",
        "5 s",
        "5x",
        "s",
        "30s1m",
        "1s1s",
        "-1s",
        "٣s",
        "1e3s",
        "1.2345s",
        "9999999d",
        5,
        5.0,
        True,
        None,
        [],
        {},
    ],
)
def test_what_is_no_duration(value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        units.parse_duration(value)


def test_a_plain_number_is_told_its_unit() -> None:
    with pytest.raises(ValueError, match=r"'5' has no unit; write \"5s\""):
        units.parse_duration("5")


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("16KiB", 16384),
        ("512MB", 512_000_000),
        ("1.5KiB", 1536),
        ("1B", 1),
        ("2TiB", 2 << 40),
        ("0.5KB", 500),
    ],
)
def test_sizes(text: str, size: int) -> None:
    assert units.parse_size(text) == size


@pytest.mark.parametrize("value", ["", "16", "16K", "16kib", "0.5B", "-1B", "1048577TiB", 16, None])
def test_what_is_no_size(value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        units.parse_size(value)
