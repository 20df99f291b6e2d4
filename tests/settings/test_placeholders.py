from hypothesis import given
from hypothesis import strategies as st

from balancer.settings.placeholders import NAMES, fill, near_misses

_VALUES = {"port": 9001, "host": "127.0.0.1", "name": "web-3", "index": 3, "pool": "web"}


def _filled(text: str) -> str:
    return fill(text, port=9001, host="127.0.0.1", name="web-3", index=3, pool="web")


def test_the_five_are_filled() -> None:
    assert _filled("{pool} {index} {name} {host}:{port}{port}") == "web 3 web-3 127.0.0.1:90019001"


def test_every_other_brace_stays() -> None:
    text = '{"a": {"b": 1}} {{ x }} {} {port } ${other} {0}'
    assert _filled(text) == text


def test_what_a_value_brings_in_is_not_filled_again() -> None:
    assert fill("{pool}", port=1, host="h", name="n", index=0, pool="{port}") == "{port}"


@given(st.text(alphabet="{}portname $", max_size=40))
def test_only_known_names_are_ever_replaced(text: str) -> None:
    if not any(f"{{{name}}}" in text for name in NAMES):
        assert _filled(text) == text


def test_near_misses() -> None:
    assert near_misses("{prot} {port} {PORT} {ports} {anything} {prot}") == [
        ("{prot}", "{port}"),
        ("{PORT}", "{port}"),
        ("{ports}", "{port}"),
    ]
