import pytest
from hypothesis import given
from hypothesis import strategies as st

from balancer.settings.address import Address, parse_address, parse_backend_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:8080", Address("127.0.0.1", 8080)),
        ("[::]:8080", Address("::", 8080)),
        ("[::1]:0", Address("::1", 0)),
        ("app_1.internal:80", Address("app_1.internal", 80)),
        ("unix:/run/a.sock", Address("", 0, "/run/a.sock")),
        ("unix:a.sock", Address("", 0, "a.sock")),
    ],
)
def test_addresses_and_back(text: str, address: Address) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "value",
    [
        "",
        ":80",
        "*:80",
        "80",
        "a",
        "127.0.0.1",
        "::1",
        "::1:80",
        "[::1]",
        "[127.0.0.1]:80",
        "a:65536",
        "a:",
        "a:b",
        "a:٣",
        "a b:80",
        "http://a:80",
        "/run/a.sock",
        "unix:",
        "256.0.0.1:80",
        "-a:80",
        80,
        None,
    ],
)
def test_what_is_no_address(value: object) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        parse_address(value)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_every_ip_address_round_trips(ip: object, port: int) -> None:
    address = Address(str(ip), port)
    assert parse_address(str(address)) == address


def test_who_can_reach_it() -> None:
    assert [parse_address(a).is_loopback for a in ("127.8.0.1:1", "[::1]:1", "localhost:1", "unix:/a")] == [True] * 4
    assert not any(parse_address(a).is_loopback for a in ("0.0.0.0:1", "[::]:1", "10.0.0.1:1", "example.com:1"))
    assert parse_address("[::]:1").is_wildcard
    assert not parse_address("127.0.0.1:1").is_wildcard


def test_a_service_is_looked_up_and_has_no_port() -> None:
    address = parse_backend_address("srv:_http._tcp.app.internal")
    assert address == Address("_http._tcp.app.internal", 0, is_service=True)
    assert address.is_name
    assert str(address) == "srv:_http._tcp.app.internal"
    assert not parse_backend_address("10.0.0.1:80").is_name
    assert not parse_backend_address("unix:/run/a.sock").is_name
    assert parse_backend_address("srv:8080") == Address("srv", 8080)
    for wrong in ("srv:", "srv:10.0.0.1", "srv:app:80", "srv:a b"):
        with pytest.raises(ValueError, match="is not a service"):
            parse_backend_address(wrong)
    with pytest.raises(ValueError, match="is not a port"):
        parse_address("srv:app")  # to listen on
