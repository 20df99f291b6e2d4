import pytest

from balancer.settings import values


def test_statuses() -> None:
    statuses = values.parse_statuses("200-299, 304")
    assert [s in statuses for s in (199, 200, 299, 300, 304)] == [False, True, True, False, True]
    assert str(statuses) == "200-299,304"


@pytest.mark.parametrize(
    ("text", "counts"), [(1, [1, 1, 1]), (3, [3, 3, 3]), ("25%", [1, 1, 3]), ("100%", [1, 4, 10]), ("30%", [1, 2, 3])]
)
def test_surge_is_never_nothing(text: object, counts: list[int]) -> None:
    surge = values.parse_surge(text)
    assert [surge.of(n) for n in (1, 4, 10)] == counts
    assert surge.of(0) >= 1
    assert str(surge) == str(text)


def test_a_command_is_split_as_a_shell_would() -> None:
    assert values.parse_command("sh -c 'a b' \"c\"") == ("sh", "-c", "a b", "c")
    assert values.parse_command(["a b", "c"]) == ("a b", "c")
    assert values.parse_command("") == ()


@pytest.mark.parametrize(
    ("host", "meant"),
    [
        ("", ""),
        ("API.Example.com", "api.example.com"),
        ("*.example.com", "*.example.com"),
        ("[::1]", "[::1]"),
        ("10.0.0.1", "10.0.0.1"),
    ],
)
def test_host_patterns(host: str, meant: str) -> None:
    assert values.parse_host_pattern(host) == meant


@pytest.mark.parametrize("host", ["*", "*.", "a.*.b", "a:80", "::1", "a/b", "bücher.example", "a..b", 3])
def test_what_is_no_host_pattern(host: object) -> None:
    with pytest.raises(ValueError, match="host"):
        values.parse_host_pattern(host)


@pytest.mark.parametrize(
    ("text", "per_second"),
    [("", 0.0), ("100/s", 100.0), ("90/m", 1.5), ("7/m", 7 / 60), ("1000/h", 1000 / 3600), ("1/h", 1 / 3600)],
)
def test_rates(text: str, per_second: float) -> None:
    assert values.parse_rate(text) == per_second
    assert values.format_rate(per_second) == text


@pytest.mark.parametrize("text", ["100", "0/s", "-1/s", "1.5/s", "100/sec", "100 / s", "/s", 100])
def test_what_is_no_rate(text: object) -> None:
    with pytest.raises(ValueError, match=r"not a rate; expected .* such as \"100/s\""):
        values.parse_rate(text)
