"""The PROXY header: both versions, everything that is none, however it is cut, and not a byte more than it."""

import socket
import struct
from collections.abc import AsyncIterator

import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from balancer.errors import Fault, Reason, Side
from balancer.net.poller import Poller
from balancer.net.proxy_protocol import Announced, parse_header, receive_header
from balancer.net.wire import Wire

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
V4 = socket.inet_aton("203.0.113.7") + socket.inet_aton("192.0.2.1") + struct.pack("!HH", 56324, 443)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") * 2 + struct.pack("!HH", 56324, 443)
MAPPED = socket.inet_pton(socket.AF_INET6, "::ffff:203.0.113.7") * 2 + struct.pack("!HH", 1, 2)


def v2(family: int, payload: bytes, command: int = 0x21, length: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload) if length is None else length) + payload


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


SSL = tlv(0x20, b"\x01" + bytes(4) + tlv(0x21, b"TLSv1.3"))
GOOD = {
    "v1 IPv4": (b"PROXY TCP4 203.0.113.7 192.0.2.1 56324 443\r\n", ("203.0.113.7", 56324, False)),
    "v1 IPv6": (b"PROXY TCP6 2001:DB8:0::7 ::1 1 0\r\n", ("2001:db8::7", 1, False)),
    "v1 mapped": (b"PROXY TCP6 ::ffff:203.0.113.7 ::1 1 0\r\n", ("203.0.113.7", 1, False)),
    "v1 unknown": (b"PROXY UNKNOWN\r\n", (None, 0, False)),
    "v1 unknown with more": (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", (None, 0, False)),
    "v2 IPv4": (v2(0x11, V4), ("203.0.113.7", 56324, False)),
    "v2 IPv6": (v2(0x21, V6), ("2001:db8::7", 56324, False)),
    "v2 mapped": (v2(0x21, MAPPED), ("203.0.113.7", 1, False)),
    "v2 datagrams": (v2(0x12, V4), ("203.0.113.7", 56324, False)),
    "v2 Unix": (v2(0x31, b"/run/a\0".ljust(216, b"\0")), ("", 0, False)),
    "v2 unspecified": (v2(0x00, b""), (None, 0, False)),
    "v2 unspecified with TLVs": (v2(0x00, tlv(4, b"")), (None, 0, False)),
    "v2 local": (v2(0x00, b"", 0x20), (None, 0, False)),
    "v2 local with anything": (v2(0x11, b"whatever", 0x20), (None, 0, False)),
    "v2 TLVs": (v2(0x11, V4 + tlv(1, b"h2") + tlv(2, b"a.example") + tlv(0xEE, b"")), ("203.0.113.7", 56324, False)),
    "v2 TLS": (v2(0x11, V4 + SSL), ("203.0.113.7", 56324, True)),
    "v2 TLS not used": (v2(0x11, V4 + tlv(0x20, bytes(5))), ("203.0.113.7", 56324, False)),
}
BAD = {
    "a request": b"GET / HTTP/1.1\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "lower case": b"proxy TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "bare LF": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1\n",
    "two spaces": b"PROXY  TCP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "trailing space": b"PROXY TCP4 1.1.1.1 1.1.1.1 1 1 \r\n",
    "missing port": b"PROXY TCP4 1.1.1.1 1.1.1.1 1\r\n",
    "large port": b"PROXY TCP4 1.1.1.1 1.1.1.1 65536 1\r\n",
    "port with zero": b"PROXY TCP4 1.1.1.1 1.1.1.1 01 1\r\n",
    "signed port": b"PROXY TCP4 1.1.1.1 1.1.1.1 +1 1\r\n",
    "octal address": b"PROXY TCP4 1.1.1.010 1.1.1.1 1 1\r\n",
    "short address": b"PROXY TCP4 1.1 1.1.1.1 1 1\r\n",
    "name": b"PROXY TCP4 localhost 1.1.1.1 1 1\r\n",
    "family": b"PROXY TCP6 1.1.1.1 1.1.1.1 1 1\r\n",
    "other family": b"PROXY TCP4 ::1 ::1 1 1\r\n",
    "zone": b"PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n",
    "unknown protocol": b"PROXY UDP4 1.1.1.1 1.1.1.1 1 1\r\n",
    "unknown glued": b"PROXY UNKNOWNS\r\n",
    "too long": b"PROXY UNKNOWN " + b"a" * 92 + b"\r\n",
    "never ends": b"PROXY UNKNOWN " + b"a" * 200,
    "version 1 in binary": v2(0x11, V4, 0x11),
    "version 3": v2(0x11, V4, 0x31),
    "version 3, cut": SIGNATURE + b"\x31",
    "command": v2(0x11, V4, 0x22),
    "v2 family": v2(0x41, V4),
    "v2 transport": v2(0x13, V4),
    "v2 too short": v2(0x11, V4[:-1]),
    "v2 IPv6 too short": v2(0x21, V4),
    "v2 too large": v2(0x11, V4, length=60000),
    "TLV cut": v2(0x11, V4 + b"\x01\x00"),
    "TLV too long": v2(0x11, V4 + b"\x01\x00\x05ab"),
    "TLS TLV too short": v2(0x11, V4 + tlv(0x20, b"\x01")),
    "checksum size": v2(0x11, V4 + tlv(3, b"abc")),
    "checksum": v2(0x11, V4 + tlv(3, b"abcd")),
}


@pytest.mark.parametrize("name", GOOD)
def test_what_it_says(name: str) -> None:
    header, expected = GOOD[name]
    assert parse_header(header + b"\r\nGET") == Announced(*expected, len(header))
    for cut in range(len(header)):
        assert parse_header(header[:cut]) is None, cut


@pytest.mark.parametrize("name", BAD)
def test_what_is_none(name: str) -> None:
    with pytest.raises(Fault) as caught:
        parse_header(BAD[name])
    assert (caught.value.side, caught.value.reason) == (Side.CLIENT, Reason.BAD_PROXY_HEADER)


def test_checksum() -> None:
    # CRC-32C of "123456789" is e3069283; a table-driven computation, which shares nothing with the one under test.
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ 0x82F63B78 * (byte & 1)
        table.append(byte)

    def checksum(data: bytes) -> int:
        crc = 0xFFFFFFFF
        for byte in data:
            crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
        return crc ^ 0xFFFFFFFF

    assert checksum(b"123456789") == 0xE3069283
    blank = v2(0x11, V4 + tlv(3, bytes(4)) + tlv(2, b"a"))
    signed = v2(0x11, V4 + tlv(3, struct.pack("!I", checksum(blank))) + tlv(2, b"a"))
    assert parse_header(signed) == Announced("203.0.113.7", 56324, False, len(signed))
    with pytest.raises(Fault):
        parse_header(signed[:-1] + b"b")


@given(
    st.one_of(
        st.binary(max_size=80),
        st.builds(
            lambda header, at, byte: header[:at] + bytes([byte]) + header[at + 1 :],
            st.sampled_from([header for header, _ in GOOD.values()]),
            st.integers(0, 60),
            st.integers(0, 255),
        ),
    ),
)
def test_anything_has_one_meaning_however_it_is_cut(data: bytes) -> None:
    def outcome(end: int) -> object:
        try:
            return parse_header(data[:end])
        except Fault as fault:
            return fault.reason

    whole = outcome(len(data))
    # The first verdict stands whatever else comes.
    first = next((found for end in range(len(data) + 1) if (found := outcome(end)) is not None), None)
    assert first == whole
    if isinstance(whole, Announced):
        assert 8 < whole.size <= len(data)


class Ends:
    """Both ends of a connection, ours as a wire."""

    def __init__(self) -> None:
        self.poller = Poller()
        self.theirs, ours = socket.socketpair()
        ours.setblocking(False)
        self.wire = Wire(self.poller, ours, Side.CLIENT, Reason.CLIENT_GONE)


@pytest.fixture
async def ends(nursery: trio.Nursery) -> AsyncIterator[Ends]:
    found = Ends()
    nursery.start_soon(found.poller.run)
    yield found
    nursery.cancel_scope.cancel()
    found.wire.close()
    found.theirs.close()
    found.poller.close()


@pytest.mark.parametrize("name", ["v1 IPv4", "v2 TLS"])
async def test_what_follows_stays_on_the_wire(ends: Ends, name: str) -> None:
    header, expected = GOOD[name]
    async with trio.open_nursery() as nursery:
        # Its end comes together with what follows.
        nursery.start_soon(_drip, ends.theirs, [*header[:-3]], header[-3:] + b"\x16\x03\x01 hello")
        with trio.fail_after(5):
            assert (await receive_header(ends.wire))[:3] == expected
            rest = b""
            while rest != b"\x16\x03\x01 hello":
                rest += await ends.wire.receive()


async def _drip(sock: socket.socket, slowly: list[int], at_once: bytes) -> None:
    for byte in slowly:
        sock.send(bytes([byte]))
        await trio.testing.wait_all_tasks_blocked()
    sock.send(at_once)


@pytest.mark.parametrize(("sent", "reason"), [(b"", Reason.CLIENT_GONE), (b"PROXY TC", Reason.BAD_PROXY_HEADER)])
async def test_a_connection_that_ends_before_it(ends: Ends, sent: bytes, reason: Reason) -> None:
    ends.theirs.send(sent)
    ends.theirs.shutdown(socket.SHUT_WR)
    with trio.fail_after(5), pytest.raises(Fault) as caught:
        await receive_header(ends.wire)
    assert caught.value.reason is reason
