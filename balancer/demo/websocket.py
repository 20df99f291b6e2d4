"""The WebSocket echo behind `/ws` (RFC 6455): text and binary messages, fragmented or not, ping, and the closing handshake."""

from balancer.demo.exchange import Exchange

ACCEPT_SUFFIX = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 1.3
MAX_MESSAGE = 16 << 20

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GOING_AWAY, PROTOCOL_ERROR, NOT_UTF8, TOO_BIG = 1001, 1002, 1007, 1009  # RFC 6455 7.4.1


class Closing(Exception):
    """The connection ends with this status code; None echoes a close frame without one."""

    def __init__(self, code: int | None) -> None:
        super().__init__(code)
        self.code = code


def accept_key(key: str) -> str:
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 4.2.2)."""
    import base64  # here and not above: only those who ask for a WebSocket wait for it
    import hashlib

    return base64.b64encode(hashlib.sha1((key + ACCEPT_SUFFIX).encode(), usedforsecurity=False).digest()).decode()


def serve_websocket(exchange: Exchange) -> None:
    """Shake hands, then send every message back until either side closes."""
    key = exchange.fields.get("sec-websocket-key")
    if not key or exchange.fields.get("upgrade", "").lower() != "websocket":
        exchange.reply("this is a WebSocket; connect with ws://\n", status=426)
        return
    exchange.switch("Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept_key(key)}")
    try:
        while True:
            kind, message = read_message(exchange)
            exchange.sock.sendall(frame(kind, message))
    except ConnectionResetError:
        if exchange.stopping.is_set():
            exchange.sock.sendall(frame(CLOSE, GOING_AWAY.to_bytes(2, "big")))
    except Closing as closing:
        exchange.sock.sendall(frame(CLOSE, b"" if closing.code is None else closing.code.to_bytes(2, "big")))


def read_message(exchange: Exchange) -> tuple[int, bytes]:
    """The next whole message as (TEXT or BINARY, its bytes), answering pings on the way. Raises Closing, OSError."""
    kind = 0
    parts: list[bytes] = []
    while True:
        is_last, opcode, payload = read_frame(exchange)
        if opcode == CLOSE:
            raise Closing(int.from_bytes(payload[:2], "big") if len(payload) >= 2 else None)
        if opcode == PING:
            exchange.sock.sendall(frame(PONG, payload))
        elif (opcode == CONTINUATION) if kind else (opcode in (TEXT, BINARY)):
            kind = kind or opcode
            parts.append(payload)
            if sum(map(len, parts)) > MAX_MESSAGE:
                raise Closing(TOO_BIG)
            if is_last:
                return kind, checked(kind, b"".join(parts))
        elif opcode != PONG:
            raise Closing(PROTOCOL_ERROR)


def checked(kind: int, message: bytes) -> bytes:
    """The message, if it is what its kind promises: text is UTF-8 (RFC 6455 8.1)."""
    if kind == TEXT:
        try:
            message.decode()
        except UnicodeDecodeError:
            raise Closing(NOT_UTF8) from None
    return message


def read_frame(exchange: Exchange) -> tuple[bool, int, bytes]:
    """One frame as (is it the last of its message, opcode, unmasked payload) (RFC 6455 5.2)."""
    first, second = exactly(exchange, 2)
    opcode, size = first & 0x0F, second & 0x7F
    if first & 0x70 or not second & 0x80 or (opcode >= CLOSE and (size > 125 or not first & 0x80)):
        raise Closing(PROTOCOL_ERROR)  # reserved bits, a client that does not mask, a long or fragmented control frame
    if size >= 126:
        size = int.from_bytes(exactly(exchange, 2 if size == 126 else 8), "big")
    if size > MAX_MESSAGE:
        raise Closing(TOO_BIG)
    mask = exactly(exchange, 4)
    masked = exactly(exchange, size)
    whole = (mask * (size // 4 + 1))[:size]
    return (
        bool(first & 0x80),
        opcode,
        (int.from_bytes(masked, "big") ^ int.from_bytes(whole, "big")).to_bytes(size, "big"),
    )


def exactly(exchange: Exchange, size: int) -> bytes:
    """So many bytes. Raises ConnectionResetError when the connection ends before."""
    data = exchange.reader.read(size)
    if len(data) < size:
        raise ConnectionResetError("the client left without a closing handshake")
    return data


def frame(opcode: int, payload: bytes) -> bytes:
    """One unmasked final frame, as a server sends it."""
    size = len(payload)
    if size < 126:
        return bytes((0x80 | opcode, size)) + payload
    if size < 1 << 16:
        return bytes((0x80 | opcode, 126)) + size.to_bytes(2, "big") + payload
    return bytes((0x80 | opcode, 127)) + size.to_bytes(8, "big") + payload
