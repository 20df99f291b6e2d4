"""The chunked transfer coding (RFC 9112 section 7): a strict decoder for any cutting of the bytes, and the encoder."""

import re

from balancer.errors import BalancerError
from balancer.http1.grammar import LINES, TCHAR, VALUE

LAST_CHUNK = b"0\r\n\r\n"
MAX_SIZE_LINE = 512  # bytes of one chunk-size line
MAX_EXTENSIONS = (
    16 * 1024
)  # bytes of all extensions of one body: tiny chunks with large extensions cost more than they carry
AT_ONCE = 256  # chunks that one `feed` takes apart: tiny ones by the ten thousand would hold up everybody else
MAX_TRAILERS = 8 * 1024
MAX_TRAILER_LINES = 32

# Plain hexadecimal, at most 15 digits (below 2**60); no sign, no "0x", no space before the extension or the CRLF.
_SIZE_LINE = re.compile(rb"([0-9A-Fa-f]{1,15}+)(;" + VALUE + rb")?\r\n").match
_SIZE_BEGINNING = re.compile(rb"[0-9A-Fa-f]{0,15}+(?:(?<=[0-9A-Fa-f]);" + VALUE + rb")?+(?:(?<=.)\r)?+\Z", re.DOTALL)
_TRAILER_BEGINNING = re.compile(LINES + rb"(?:" + TCHAR + rb"++(?::" + VALUE + rb")?+)?+\r?\Z")
_TRAILERS = re.compile(rb"(" + LINES + rb")\r\n").match

# RFC 9110 6.5.1: what frames, routes, authenticates or describes the message must not come after it; nor what we set ourselves.
_FORBIDDEN = frozenset(
    b"""age authorization cache-control connection content-encoding content-length content-range content-type cookie date
    expect expires forwarded host keep-alive location max-forwards pragma proxy proxy-authenticate proxy-authorization
    proxy-authentication-info proxy-connection range retry-after set-cookie te trailer transfer-encoding upgrade vary via warning
    www-authenticate x-real-ip x-request-id authentication-info""".split()
)
_FORBIDDEN_PREFIXES = (b"x-forwarded-", b"if-")


class FramingError(BalancerError):
    """The bytes are not a chunked body. Whose fault that is, the caller knows."""


class ChunkedReader:
    """Takes a chunked body apart, however it is cut.

    done: the end was seen; then `trailers` is the block of permitted trailer lines, each with CRLF, and `rest` what
    followed the body. Until then `rest` is what the last `feed` has left for the next one (`AT_ONCE`). Holds at most one size
    line or the trailers; work is linear in the bytes fed.
    """

    __slots__ = ("_crlf", "_extensions", "_held", "_in_trailers", "_left", "done", "rest", "trailers")

    def __init__(self) -> None:
        self.done = False
        self.trailers = b""
        self.rest = b""
        self._held = b""  # an incomplete size line or trailer section
        self._left = 0  # bytes of the current chunk still to come
        self._crlf = 0  # bytes of the CRLF after a chunk's data still to come
        self._in_trailers = False
        self._extensions = 0

    def feed(self, data: bytes) -> list[memoryview]:
        """Take the next bytes, `rest` before any others; the payload in them, in order, as views. Raises FramingError."""
        pieces: list[memoryview] = []
        view = memoryview(data)
        at = 0
        end = len(data)
        chunks_left = AT_ONCE
        while at < end and not self.done and chunks_left:
            if self._left:
                take = min(self._left, end - at)
                pieces.append(view[at : at + take])
                self._left -= take
                at += take
                if not self._left:
                    self._crlf = 2
                    chunks_left -= 1
            elif self._crlf:
                if data[at] != b"\n\r"[self._crlf - 1]:
                    raise FramingError("no CRLF after the data of a chunk")
                self._crlf -= 1
                at += 1
            elif self._in_trailers:
                at = self._take_trailers(data, at)
            else:
                at = self._take_size_line(data, at)
        self.rest = data[at:]
        return pieces

    def _take_size_line(self, data: bytes, at: int) -> int:
        held = len(self._held)
        text, start = (self._held + data[at : at + MAX_SIZE_LINE], 0) if held else (data, at)
        line = _SIZE_LINE(text, start)
        if line is None:
            self._hold(text[start : start + MAX_SIZE_LINE + 1], MAX_SIZE_LINE, _SIZE_BEGINNING)
            return len(data)
        size = line.end() - start
        if size > MAX_SIZE_LINE:
            raise FramingError("a chunk-size line is too long")
        if line[2]:
            self._extensions += len(line[2])
            if self._extensions > MAX_EXTENSIONS:
                raise FramingError("too many chunk extensions")
        self._held = b""
        self._left = int(line[1], 16)
        self._in_trailers = not self._left
        return at + size - held

    def _take_trailers(self, data: bytes, at: int) -> int:
        held = len(self._held)
        text = self._held + data[at : at + MAX_TRAILERS + 1]
        section = _TRAILERS(text)
        if section is None:
            self._hold(text, MAX_TRAILERS, _TRAILER_BEGINNING)
            return len(data)
        if section.end() > MAX_TRAILERS or section[1].count(b"\n") > MAX_TRAILER_LINES:
            raise FramingError("too many trailers")
        self._held = b""
        self.trailers = _permitted(section[1])
        self.done = True
        return at + section.end() - held

    def _hold(self, text: bytes, limit: int, beginning: re.Pattern[bytes]) -> None:
        """Keep what may become a whole line or section; refuse at once what cannot."""
        if not beginning.match(text):
            raise FramingError("a malformed chunk-size line or trailer")
        if len(text) > limit:
            raise FramingError("a chunk-size line or trailer section is too long")
        self._held = text


def _permitted(lines: bytes) -> bytes:
    kept = []
    for line in lines.splitlines(keepends=True):
        name = line[: line.index(b":")].lower().replace(b"_", b"-")
        if name not in _FORBIDDEN and not name.startswith(_FORBIDDEN_PREFIXES):
            kept.append(line)
    return b"".join(kept)


def chunk(data: bytes) -> bytes:
    """`data` as one chunk; b"" for no data, because an empty chunk would end the body."""
    return b"%x\r\n%s\r\n" % (len(data), data) if data else b""
