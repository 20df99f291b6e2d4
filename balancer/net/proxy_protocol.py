"""The PROXY protocol, versions 1 and 2: who is really behind a connection that a load balancer in front of us has made.

After the specification of HAProxy ("The PROXY protocol, versions 1 & 2"). Only the header's own bytes are taken from the socket,
so that whatever comes next on it, a TLS handshake or a request, finds all of its bytes.
"""

import re
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from time import monotonic
from typing import Final, NamedTuple

from balancer.errors import Fault, Moment, Reason, Side
from balancer.net.wire import Wire

TIMEOUT: Final = 5.0  # seconds for all of it; the specification wants at least 3 s, for one lost segment
MAX_SIZE: Final = 16 * 1024  # bytes; version 2 could say 64 KiB, of which the addresses take at most 216

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_V1_LONGEST: Final = 107  # bytes of a version 1 line, CRLF included
_PORT: Final = rb"(0|[1-9][0-9]{0,4}+)"
_V1: Final = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\r\n]*+)?+|(TCP4|TCP6) ([0-9A-Fa-f:.]++) ([0-9A-Fa-f:.]++) "
    + _PORT
    + rb" "
    + _PORT
    + rb")\r\n"
).fullmatch

_LOCAL: Final = 0x0
_IPV4: Final = 0x1
_IPV6: Final = 0x2
_UNIX: Final = 0x3
_ADDRESS_SIZES: Final = {0x0: 0, _IPV4: 12, _IPV6: 36, _UNIX: 216}
_TLV_CRC32C: Final = 0x03
_TLV_SSL: Final = 0x20
_CLIENT_SSL: Final = 0x01


class Announced(NamedTuple):
    """What a header says.

    address: the client's, without port; "" for one that came over a Unix socket; None when the header speaks of no other
    connection than this one (LOCAL, UNKNOWN): the socket's own peer is the client.
    port: the client's, 0 where there is none. is_tls: the sender has said that the client came over TLS.
    size: bytes of the header.
    """

    address: str | None
    port: int
    is_tls: bool
    size: int


def parse_header(data: bytes) -> Announced | None:
    """Read the header at the start of `data`; None while it is incomplete. Raises Fault(client, bad_proxy_header)."""
    if data[: len(_SIGNATURE)] == _SIGNATURE:
        return _version_2(data)
    if _SIGNATURE.startswith(data):
        return None
    return _version_1(data)


async def receive_header(wire: Wire, timeout: float = TIMEOUT) -> Announced:
    """Take the header, and nothing behind it, from a connection that begins with one. Raises Fault(client): no or no good header."""
    wire.late = Reason.BAD_PROXY_HEADER
    wire.read_deadline = monotonic() + timeout
    while True:
        try:
            data = wire.sock.recv(MAX_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            data = b""
        except OSError as error:
            raise wire.fault(error) from None
        else:
            if not data:
                raise Fault(wire.side, wire.broken)
        announced = parse_header(data) if data else None
        if announced is not None:
            wire.sock.recv(announced.size)
            return announced
        if wire.left:
            raise _bad("ended inside it")  # what is there stays readable for ever, and no more comes
        wire.readable = False
        await wire.wait_readable()


def _bad(detail: str) -> Fault:
    return Fault(Side.CLIENT, Reason.BAD_PROXY_HEADER, Moment.BEFORE_SEND, detail)


def _version_1(data: bytes) -> Announced | None:
    end = data.find(b"\n", 0, _V1_LONGEST) + 1
    if not end:
        if len(data) >= _V1_LONGEST or not (b"PROXY ".startswith(data) or data.startswith(b"PROXY ")):
            raise _bad("no PROXY header")
        return None
    found = _V1(data, 0, end)
    if found is None:
        raise _bad("malformed version 1 line")
    family, source, destination, source_port, destination_port = found.groups()
    if family is None:
        return Announced(None, 0, False, end)
    kind = IPv4Address if family == b"TCP4" else IPv6Address
    try:
        address = kind(source.decode("ascii"))
        kind(destination.decode("ascii"))
    except ValueError:
        raise _bad("malformed address") from None
    if int(source_port) > 65535 or int(destination_port) > 65535:
        raise _bad("malformed port")
    return Announced(_text(address), int(source_port), False, end)


def _version_2(data: bytes) -> Announced | None:
    if len(data) < 16:
        if len(data) > 12 and data[12] >> 4 != 2:
            raise _bad("a version other than 1 and 2")
        return None
    version_command, family, length = struct.unpack_from("!BBH", data, 12)
    command = version_command & 0xF
    if version_command >> 4 != 2 or command > 1:
        raise _bad("a version or command that is not known")
    size = 16 + length
    if size > MAX_SIZE:
        raise _bad("too large")
    address_size = _ADDRESS_SIZES.get(family >> 4)
    if address_size is None or family & 0xF > 2:
        raise _bad("a family or transport that is not known")
    if len(data) < size:
        return None
    if command == _LOCAL:
        return Announced(None, 0, False, size)  # the rest must be skipped, whatever it says
    if length < address_size:
        raise _bad("shorter than its addresses")
    is_tls = False
    for kind, start, end in _tlvs(data, 16 + address_size, size):
        if kind == _TLV_CRC32C:
            _check_sum(data[:size], start, end)
        elif kind == _TLV_SSL:
            if end - start < 5:
                raise _bad("malformed TLV")
            is_tls = bool(data[start] & _CLIENT_SSL)
    if family >> 4 == _IPV4:
        return Announced(str(IPv4Address(data[16:20])), int.from_bytes(data[24:26], "big"), is_tls, size)
    if family >> 4 == _IPV6:
        return Announced(_text(IPv6Address(data[16:32])), int.from_bytes(data[48:50], "big"), is_tls, size)
    return Announced("" if family >> 4 == _UNIX else None, 0, is_tls, size)


def _tlvs(data: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, end of the value) of each TLV in data[start:end]."""
    while start < end:
        if end - start < 3:
            raise _bad("malformed TLV")
        value = start + 3
        kind = data[start]
        start = value + int.from_bytes(data[start + 1 : value], "big")
        if start > end:
            raise _bad("malformed TLV")
        yield kind, value, start


def _check_sum(header: bytes, start: int, end: int) -> None:
    """Hold the header to its own CRC32c, which was worked out with zeros in its place."""
    if end - start != 4 or _crc32c(header[:start] + bytes(4) + header[end:]) != int.from_bytes(
        header[start:end], "big"
    ):
        raise _bad("wrong checksum")


def _crc32c(data: bytes) -> int:
    """CRC-32C (Castagnoli, RFC 3720 B.4), bit by bit: a header is short, and few carry one."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def _text(address: IPv4Address | IPv6Address) -> str:
    """As text; an IPv4 client in IPv6 clothes is an IPv4 client."""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
