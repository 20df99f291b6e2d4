"""Where WebSocket frames end, however the bytes are cut."""

from hypothesis import given
from hypothesis import strategies as st

from balancer.http1.websocket import GOING_AWAY, Frames


def frame(size: int, is_masked: bool) -> bytes:
    """One binary frame with a payload of zeros."""
    mask = 0x80 if is_masked else 0
    if size < 126:
        head = bytes([0x82, mask | size])
    elif size < 65536:
        head = bytes([0x82, mask | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([0x82, mask | 127]) + size.to_bytes(8, "big")
    return head + (b"mask" if is_masked else b"") + bytes(size)


SIZES = st.one_of(st.integers(0, 200), st.sampled_from([125, 126, 127, 65535, 65536, 70000]))


@given(st.lists(st.tuples(SIZES, st.booleans()), max_size=6), st.data())
def test_borders_are_found_in_any_cut(sizes: list[tuple[int, bool]], data: st.DataObject) -> None:
    stream, borders = b"", {0}
    for size, is_masked in sizes:
        stream += frame(size, is_masked)
        borders.add(len(stream))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames = Frames()
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        inside = [border for border in borders if start < border <= end]
        assert frames.feed(stream[start:end]) == (max(inside) - start if inside else -1)
        assert frames.is_between == (end in borders)


def test_going_away_is_one_whole_frame() -> None:
    frames = Frames()
    assert frames.feed(GOING_AWAY) == len(GOING_AWAY)
    assert GOING_AWAY[2:] == (1001).to_bytes(2, "big")
