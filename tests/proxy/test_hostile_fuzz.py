"""Requests and responses that are cut and spoilt at random: one meaning, an end in time, and never two messages out of one."""

from itertools import pairwise
from pathlib import Path

import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.proxy.ends import End, Liar, Origin, Torn, requests
from tests.proxy.harness import GET, Front, front

CORPUS = Path(__file__).parents[1] / "corpus"
REQUESTS = [path.read_bytes() for path in sorted((CORPUS / "requests").glob("*.raw"))]
RESPONSES = [path.read_bytes() for path in sorted((CORPUS / "responses").glob("*.raw"))]
SHORT = {"header_timeout": 0.15, "idle_timeout": 0.05, "body_timeout": 0.15}
OFTEN = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
# What parsers stumble over: line ends, separators, whitespace, digits that lengthen or shorten.
ODD = [
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b" ",
    b"\t",
    b":",
    b",",
    b";",
    b"0",
    b"9",
    b"\x00",
    b"\xff",
    b"\x0b",
    b"-",
    b"chunked",
]
ODD += [
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n",
    b"0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n",
]


@st.composite
def spoilt(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of them with up to three insertions, deletions, replacements or doublings."""
    data = draw(st.sampled_from([original for original in originals if 0 < len(original) < 2000]))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data)))
        end = min(len(data), at + draw(st.integers(0, 8)))
        data = data[:at] + draw(st.sampled_from([*ODD, b"", data[at:end] * 2])) + data[end:]
    return data


class Numbering(Origin):
    """Answers each request with its number."""

    def __init__(self) -> None:
        super().__init__(self._number)

    async def _number(self, _: Origin, end: End) -> None:
        async for request in requests(self, end):
            await end.send(b"HTTP/1.1 200 OK\r\nX-Number: %d\r\nContent-Length: 0\r\n\r\n" % len(self.requests))
            if request.has("upgrade"):
                return


async def converse(proxy: Front, pieces: list[bytes]) -> tuple[list[tuple[int, str]], bool]:
    """(status, number) of every answer to these bytes until the connection ends, and whether it ended in order."""
    answers: list[tuple[int, str]] = []
    methods = iter(_methods(b"".join(pieces)))
    with trio.fail_after(5):
        async with proxy.client() as client:
            try:
                for piece in pieces:
                    await client.stream.send_all(piece)
                    await proxy.quiet()
            except trio.BrokenResourceError:
                pass
            try:
                while client.buffer or await client.more():
                    answer = await client.response(next(methods, "GET"))
                    answers.append((answer.status, "".join(answer.all("x-number"))))
            except Torn:
                return answers, False
    return answers, True


def _methods(data: bytes) -> list[str]:
    # Only what is answered without a body matters.
    return ["HEAD" if data.lstrip(b"\r\n").startswith(b"HEAD ") else "GET"]


def _check(origin: Origin, answers: list[tuple[int, str]]) -> None:
    """What the backend has seen is what was answered, one by one and in order; at most one refusal, and that at the end."""
    numbers = [number for _, number in answers if number]
    assert numbers == [str(number + 1) for number in range(len(origin.requests))]
    assert all(number for _, number in answers[:-1])


@OFTEN
@given(st.sampled_from([raw for raw in REQUESTS if len(raw) < 2000]), st.lists(st.floats(0, 1), min_size=1, max_size=3))
async def test_any_cut_gives_the_same(raw: bytes, cuts: list[float]) -> None:
    borders = [0, *sorted(int(cut * len(raw)) for cut in cuts), len(raw)]
    found = []
    for pieces in ([raw], [raw[a:b] for a, b in pairwise(borders) if a < b]):
        origin = Numbering()
        async with front(origin, proxy=SHORT) as proxy:
            answers, _ = await converse(proxy, pieces)
        _check(origin, answers)
        found.append((answers, [(seen.start, seen.body, seen.trailers) for seen in origin.requests]))
    assert found[0] == found[1]


@OFTEN
@given(spoilt(REQUESTS))
async def test_spoilt_requests(raw: bytes) -> None:
    origin = Numbering()
    async with front(origin, proxy=SHORT) as proxy:
        answers, _ = await converse(proxy, [raw])
        _check(origin, answers)
        # No more requests than there are request lines, wherever they stand.
        assert len(origin.requests) <= raw.count(b" HTTP/1.")
        before = len(origin.requests)
        assert (await proxy.ask()).status == 200
        assert len(origin.requests) == before + 1


@OFTEN
@given(spoilt(RESPONSES), st.booleans())
async def test_spoilt_responses(raw: bytes, closes: bool) -> None:
    origin = Liar(raw, closes)
    limits = {"response_timeout": 0.15}
    async with front(origin, proxy=SHORT, pool=limits) as proxy:
        try:
            answer = await proxy.ask(GET)
        except (Torn, ValueError):
            pass  # cut, as it should be when it was begun
        else:
            assert answer.status in (502, 504) or b"%d" % answer.status in raw
        # Whatever it was, it is not what the next one gets.
        assert (await proxy.ask()).body == b"ok"
