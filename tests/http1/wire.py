"""Strategies that make bytes near the border between valid and invalid HTTP/1.1."""

from hypothesis import strategies as st

_NAMES = [
    "Host", "Connection", "Content-Length", "Transfer-Encoding", "TE", "Upgrade", "Expect", "Keep-Alive", "Proxy", "Via",
    "X-Forwarded-For", "Forwarded", "X-Request-ID", "X_Forwarded_For", "Content_Length", "Accept", "Cookie", "X-A", "Trailer",
    "Host ", " Host", "", "X:A",
]  # fmt: skip
_VALUES = [
    "a.example", "a.example:80", "[::1]", "", "keep-alive", "close", "Close, X-A", "upgrade", "upgrade, HTTP2-Settings", "0", "5",
    "05", "5, 5", "+5", "chunked", "Chunked", "gzip", "chunked, chunked", "trailers", "websocket", "h2c", "100-continue", "a\tb",
    "caf\xe9", "\x00", "a\rb", "a\nb", "a\r\n b", "a\x7fb", "99999999999999999999",
]  # fmt: skip
_ENDS = ["\r\n"] * 12 + ["\n", "\r", "\r\n\r\n", "", "\r\n "]


def _line(name: str, space: str, value: str, end: str) -> str:
    return f"{name}:{space}{value}{end}"


_GOOD = [
    "Content-Length: 5", "Transfer-Encoding: chunked", "Connection: keep-alive", "connection: Close", "Connection: upgrade, X-A",
    "Accept: */*", "X-Forwarded-For: 10.0.0.1", "Upgrade: websocket", "X-A: b", "TE: trailers", "Expect: 100-continue",
    "Cookie:a=b; c=d", "X-Request-ID:\tabc ", "X-Empty:", "X_Forwarded_For: caf\xe9", "Keep-Alive: timeout=5",
]  # fmt: skip
lines = st.one_of(
    st.sampled_from(_GOOD).map(lambda line: line + "\r\n"),
    st.builds(
        _line,
        st.sampled_from(_NAMES),
        st.sampled_from(["", " ", "\t ", "\x0b"]),
        st.sampled_from(_VALUES),
        st.sampled_from(_ENDS),
    ),
)
_request_lines = st.builds(
    "{}{}{}{}{}{}".format,
    st.sampled_from(["", "", "", "\r\n", "\n", " "]),
    st.sampled_from(["GET", "POST", "OPTIONS", "HEAD", "CONNECT", "brew", "G@T"]),
    st.sampled_from([" "] * 6 + ["  ", "\t"]),
    st.sampled_from(
        ["/", "/a?b", "*", "http://b.example/x", "http://b.example", "https://u@b/", "a", "/#x", "/\xe9", "//x"]
    ),
    st.sampled_from([" HTTP/1.1"] * 8 + [" HTTP/1.0", " HTTP/1.2", " HTTP/2.0", " HTTP/1.11", "", " http/1.1"]),
    st.sampled_from(_ENDS),
)
_plain_lines = st.sampled_from(
    ["GET / HTTP/1.1\r\n", "POST /a HTTP/1.1\r\n", "GET / HTTP/1.0\r\n", "GET http://b/ HTTP/1.1\r\n"]
)
_status_lines = st.builds(
    "{} {}{}{}".format,
    st.sampled_from(["HTTP/1.1"] * 6 + ["HTTP/1.0", "HTTP/1.2", "HTTP/2.0", "http/1.1"]),
    st.sampled_from(["200", "204", "304", "101", "100", "404", "999", "099", "20", "2000"]),
    st.sampled_from([" OK", " ", "", " caf\xe9", " \x00", "  OK"]),
    st.sampled_from(_ENDS),
)
_plain_status = st.sampled_from(["HTTP/1.1 200 OK\r\n", "HTTP/1.1 204 No Content\r\n", "HTTP/1.0 200 OK\r\n"])


def _spoil(text: str, position: float, character: str) -> bytes:
    at = int(position * len(text))
    return (text[:at] + character + text[at:]).encode("latin-1")


def _encoded(text: str) -> bytes:
    return text.encode("latin-1")


def _heads(plain: st.SearchStrategy[str], first: st.SearchStrategy[str], needed: list[str]) -> st.SearchStrategy[bytes]:
    """Mostly whole and clean; some with one odd line, or spoilt by one byte; some with anything anywhere; some noise."""
    good = st.lists(st.sampled_from(_GOOD), max_size=5, unique=True)
    clean = good.flatmap(lambda chosen: st.permutations(needed + chosen)).map(
        lambda lines: [line + "\r\n" for line in lines]
    )
    whole = st.builds(
        lambda start, fields, body: start + "".join(fields) + "\r\n" + body,
        plain,
        clean,
        st.sampled_from(["", "hello"]),
    )
    one_odd = st.builds(
        lambda start, fields, odd: start + "".join([*fields, odd]) + "\r\n", st.one_of(plain, first), clean, lines
    )
    anything = st.builds(
        lambda start, fields, end: start + "".join(fields) + end,
        st.one_of(plain, first),
        st.lists(lines, max_size=6),
        st.sampled_from(["\r\n"] * 6 + ["\n", "", "\r\nhello"]),
    )
    spoilt = st.builds(_spoil, whole, st.floats(0, 0.99), st.sampled_from("\r\n\t :,\x00aZ5\xff"))
    return st.one_of(whole.map(_encoded), one_odd.map(_encoded), spoilt, anything.map(_encoded), st.binary(max_size=40))


request_heads = _heads(_plain_lines, _request_lines, ["Host: a.example"])
response_heads = _heads(_plain_status, _status_lines, [])

_COMMON = [
    "Content-Length: 5",
    "Connection: keep-alive",
    "connection:Close ",
    "Accept: */*",
    "Cookie:a=b",
    "content-length:\t7",
]
common_requests = st.builds(
    lambda start, fields: _encoded(start + "\r\n".join(fields) + "\r\n\r\nhello"),
    st.sampled_from(["GET / HTTP/1.1\r\n", "CONNECT /x HTTP/1.1\r\n", "b! /a?b HTTP/1.1\r\n"]),
    st.lists(st.sampled_from(_COMMON), max_size=5).flatmap(lambda chosen: st.permutations(["hOST:[::1]:80", *chosen])),
)
