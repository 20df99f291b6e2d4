"""Who may ask what: every combination that matters, without a socket."""

import pytest

from balancer.admin.guard import Guard, host_of, is_loopback

SECRET = "s3cret"


def status(guard: Guard, method: str, path: str, **headers: str) -> int:
    refusal = guard.check(method, path, headers)
    return refusal.status if refusal else 200


@pytest.mark.parametrize(
    ("bound", "host", "expected"),
    [
        ("127.0.0.1", "127.0.0.1:9901", 200),
        ("127.0.0.1", "localhost", 200),
        ("127.0.0.1", "LOCALHOST.:80", 200),
        ("127.0.0.1", "[::1]:9901", 200),
        ("127.0.0.1", "127.8.9.10", 200),
        ("127.0.0.1", "10.0.0.1:9901", 403),
        ("127.0.0.1", "evil.example", 403),
        ("127.0.0.1", "localhost.evil.example", 403),
        ("127.0.0.1", "127.0.0.1.evil.example", 403),
        ("127.0.0.1", "", 403),
        ("127.0.0.1", "[::1", 403),
        ("127.0.0.1", "a:b:c", 403),
        ("admin.internal", "admin.internal:9901", 200),
        ("0.0.0.0", "10.0.0.1:9901", 200),
        ("0.0.0.0", "evil.example", 403),
        ("::", "[2001:db8::1]:9901", 200),
    ],
)
def test_host(bound: str, host: str, expected: int) -> None:
    assert status(Guard(bound, SECRET), "GET", "/healthz", host=host) == expected


def test_the_token_opens_an_address_that_others_reach() -> None:
    guard = Guard("0.0.0.0", SECRET)
    host, bearer = "10.0.0.1:9901", f"Bearer {SECRET}"
    assert status(guard, "GET", "/readyz", host=host) == 200
    assert status(guard, "GET", "/metrics", host=host) == 401
    assert status(guard, "GET", "/metrics", host=host, authorization=bearer) == 200
    # Whoever holds the token is no browser that was lured here, so Prometheus may use any name.
    assert status(guard, "GET", "/metrics", host="balancer.monitoring:9901", authorization=bearer) == 200
    assert status(guard, "POST", "/readyz", host=host) == 401
    assert status(guard, "POST", "/api/v1/stop", host=host, authorization=bearer) == 200
    assert status(Guard("127.0.0.1", SECRET), "GET", "/metrics", host="evil.example", authorization=bearer) == 403


@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer ", "Bearer s3cre", "Bearer s3crett", "s3cret", "Bearer \xe9"]
)
def test_anything_but_the_token_is_refused(authorization: str) -> None:
    for method in ("POST", "PUT", "DELETE", "FORGE"):
        given = {"host": "localhost", "authorization": authorization}
        assert status(Guard("127.0.0.1", SECRET), method, "/api/v1/reload", **given) == 401
        assert status(Guard("127.0.0.1", ""), method, "/api/v1/reload", **given) == 403


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://localhost:1", "http://localhost:9901.evil.example"]
)
def test_pages_of_others_are_refused_even_with_the_token(origin: str) -> None:
    headers = {"host": "localhost:9901", "authorization": f"Bearer {SECRET}", "origin": origin}
    assert status(Guard("127.0.0.1", SECRET), "POST", "/api/v1/reload", **headers) == 403
    assert (
        status(Guard("127.0.0.1", SECRET), "POST", "/api/v1/reload", **{**headers, "origin": "http://localhost:9901"})
        == 200
    )


def test_hosts() -> None:
    assert [host_of(h) for h in ("a", "a:1", "[::1]", "[::1]:80", "[::1]x", "1:2:3", "")] == [
        "a",
        "a",
        "::1",
        "::1",
        "",
        "",
        "",
    ]
    assert [is_loopback(h) for h in ("localhost", "127.9.9.9", "::1", "0.0.0.0", "example.com")] == [True] * 3 + [
        False
    ] * 2
