"""Where frames of a WebSocket connection end (RFC 6455, section 5.2), and the word that ends it. Pure.

A proxy passes frames on unread; only to say something of its own must it know where one ends.
"""

from typing import Final

# A close frame with status 1001, "going away" (RFC 6455, section 7.4.1), as a server sends it: unmasked.
GOING_AWAY: Final = b"\x88\x02\x03\xe9"

_EXTENDED: Final = {126: 2, 127: 8}  # bytes of the length behind a 7-bit length of this value
_LONGEST_HEAD: Final = 14


class Frames:
    """Follows one direction, whose pieces may be cut anywhere."""

    __slots__ = ("_head", "_left")

    def __init__(self) -> None:
        self._head = b""  # of a frame that has begun
        self._left = 0  # bytes of its payload still to come

    @property
    def is_between(self) -> bool:
        """Whether the last frame is complete and no other has begun."""
        return not self._left and not self._head

    def feed(self, data: bytes) -> int:
        """How much of `data` goes to the end of the last frame that ends in it; -1 if none does."""
        position, border, size = 0, -1, len(data)
        while position < size:
            if not self._left:
                known = len(self._head)
                head = self._head + data[position : position + _LONGEST_HEAD - known]
                extended = _EXTENDED.get(head[1] & 0x7F, 0) if len(head) > 1 else 0
                needed = 2 + extended + (4 if len(head) > 1 and head[1] & 0x80 else 0)
                if len(head) < needed:
                    self._head = head
                    break
                self._head = b""
                position += needed - known
                self._left = int.from_bytes(head[2 : 2 + extended], "big") if extended else head[1] & 0x7F
            step = min(self._left, size - position)
            position += step
            self._left -= step
            if not self._left:
                border = position
        return border
