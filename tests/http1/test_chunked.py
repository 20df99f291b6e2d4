"""The chunked decoder: the same payload however the bytes are cut, and bounded whatever is sent."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from balancer.http1.chunked import AT_ONCE, LAST_CHUNK, MAX_EXTENSIONS, ChunkedReader, FramingError, chunk

pieces = st.lists(st.binary(min_size=1, max_size=40), max_size=8)
cuts = st.lists(st.integers(0, 400), max_size=12)


def fed(stream: bytes, at: list[int]) -> tuple[ChunkedReader, bytes]:
    """The reader and its payload after `stream` came cut at these places; what follows the end is joined to `rest`."""
    reader = ChunkedReader()
    payload = b""
    borders = [0, *sorted(min(cut, len(stream)) for cut in at), len(stream)]
    after = b""
    for start, end in pairwise(borders):
        if reader.done:
            after += stream[start:end]
        else:
            payload += b"".join(reader.feed(stream[start:end]))
            while reader.rest and not reader.done:
                payload += b"".join(reader.feed(reader.rest))
    reader.rest += after
    return reader, payload


@given(
    pieces, cuts, st.sampled_from([b"", b";a=b", b";" + b"x" * 300]), st.sampled_from([b"", b"X-Sum: 1\r\nX-B:\r\n"])
)
@settings(deadline=None)
def test_any_cut_gives_the_same(parts: list[bytes], at: list[int], extension: bytes, trailers: bytes) -> None:
    chunks = b"".join(b"%X%s\r\n%s\r\n" % (len(part), extension, part) for part in parts)
    reader, payload = fed(chunks + b"0\r\n" + trailers + b"\r\nGET / ", at)
    assert reader.done
    assert (payload, reader.trailers, reader.rest) == (b"".join(parts), trailers, b"GET / ")


@given(pieces, cuts, st.floats(0, 0.999), st.sampled_from(list(b"\r\n;:0aZ \x00\xff")))
@settings(deadline=None)
def test_any_cut_refuses_the_same(parts: list[bytes], at: list[int], position: float, byte: int) -> None:
    stream = b"".join(chunk(part) for part in parts) + b"0\r\nX-Sum: 1\r\n\r\n"
    place = int(position * len(stream))
    stream = stream[:place] + bytes([byte]) + stream[place:]
    outcomes: list[tuple[bool, bytes, bytes, bytes] | None] = []
    for cutting in ([], at, list(range(len(stream)))):
        try:
            reader, payload = fed(stream, cutting)
            outcomes.append((reader.done, payload, reader.trailers, reader.rest))
        except FramingError:
            outcomes.append(None)
    assert outcomes[0] == outcomes[1] == outcomes[2]


def test_a_turn_has_an_end() -> None:
    reader = ChunkedReader()
    stream = b"1\r\na\r\n" * (AT_ONCE + 1) + LAST_CHUNK + b"next"
    assert len(reader.feed(stream)) == AT_ONCE
    assert not reader.done
    assert len(reader.feed(reader.rest)) == 1
    assert (reader.done, reader.rest) == (True, b"next")


@given(st.binary(max_size=60))
def test_decodes_what_the_encoder_made(data: bytes) -> None:
    reader, payload = fed(chunk(data) + LAST_CHUNK, [])
    assert reader.done
    assert payload == data


def test_extensions_of_one_body_are_bounded() -> None:
    reader = ChunkedReader()
    one = b"1;" + b"x" * 400 + b"\r\na\r\n"
    for _ in range(MAX_EXTENSIONS // 400 - 1):
        reader.feed(one)
    with pytest.raises(FramingError):
        reader.feed(one * 2)


@pytest.mark.parametrize(
    "stream", [b"1;" + b"x" * 600, b"0\r\nX: " + b"x" * 9000, b"0\r\n" + b"X: y\r\n" * 33 + b"\r\n", b"5x"]
)
def test_refused_without_waiting_for_more(stream: bytes) -> None:
    for at in ([], list(range(len(stream)))):
        with pytest.raises(FramingError):
            fed(stream, at)


def test_forbidden_trailers_are_dropped() -> None:
    trailers = b"Content-Length: 3\r\nX_Forwarded_For: a\r\nX-Sum: 1\r\nset-cookie: a\r\nTransfer-Encoding: x\r\nIf-Match: y\r\n"
    reader, _ = fed(b"0\r\n" + trailers + b"\r\n", [])
    assert reader.trailers == b"X-Sum: 1\r\n"


def test_a_large_chunk_is_passed_on_without_a_copy() -> None:
    data = b"x" * 100_000
    found = ChunkedReader().feed(b"fffffff\r\n" + data)
    assert len(found) == 1
    assert found[0].obj is not None
    assert found[0] == data
