"""TLS settings as they travel, and the `ssl` contexts that are made of them.

Keys come as text: a proxy may run as a user who cannot read the files. What OpenSSL wants as a file is a memory file for a moment.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any, Final, NoReturn

ALPN: Final = ("http/1.1",)
# Mozilla's intermediate profile (guidelines 5.7) without DHE, for which only clients older than TLS 1.2's elliptic curves ask.
# OpenSSL's own suites of TLS 1.3 are those of the profile.
CIPHERS: Final = (
    "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
)
_VERSIONS: Final = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLIENT_AUTH: Final = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
# Where it is set, a connection that somebody cuts looks like one that has ended.
_IGNORE_EOF: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)


@dataclass(frozen=True, slots=True)
class Chain:
    """A certificate with its intermediates, and its key, both PEM text."""

    cert: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Identity:
    """What a server can be: names in lower case, "*.example.com" among them, and a chain for each kind of key."""

    names: tuple[str, ...]
    chains: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class ServerTls:
    """TLS of a listener; the first identity is for who asks for no name, or for none that is here. PEM text; "": none."""

    identities: tuple[Identity, ...]
    min_version: str = "1.2"
    client_auth: str = "none"
    client_ca: str = ""
    client_crl: str = ""

    def to_json(self) -> dict[str, Any]:
        """As it travels."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "ServerTls":
        """The inverse of `to_json`."""
        identities = (
            Identity(tuple(i["names"]), tuple(Chain(**chain) for chain in i["chains"])) for i in value["identities"]
        )
        return cls(**{**value, "identities": tuple(identities)})


@dataclass(frozen=True, slots=True)
class ClientTls:
    """TLS towards a backend. ca: PEM text, "" for the system's; cert and key: shown to the backend, "" for none."""

    server_name: str
    verify: bool = True
    ca: str = ""
    cert: str = ""
    key: str = field(default="", repr=False)

    def to_json(self) -> dict[str, Any]:
        """As it travels."""
        return asdict(self)


def server_context(tls: ServerTls) -> ssl.SSLContext:
    """The context of a listener: it chooses among its identities itself. Raises ssl.SSLError or ValueError."""
    default, *others = (_one_identity(tls, identity) for identity in tls.identities)
    if others:
        exact: dict[str, ssl.SSLContext] = {}
        below: dict[str, ssl.SSLContext] = {}
        for identity, context in zip(tls.identities, (default, *others), strict=True):
            for name in identity.names:
                table, name = (below, name[2:]) if name.startswith("*.") else (exact, name)
                table.setdefault(name, context)

        def choose(sock: ssl.SSLObject, name: str | None, _: ssl.SSLContext) -> None:
            if name is not None:
                name = name.lower().removesuffix(".")
                # A wildcard stands for one label (RFC 9525 6.3).
                found = exact.get(name) or below.get(name.partition(".")[2])
                if found is not None:
                    sock.context = found

        default.sni_callback = choose
    return default


def client_context(tls: ClientTls) -> ssl.SSLContext:
    """The context for connections to a backend. Raises ssl.SSLError or ValueError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.options &= ~_IGNORE_EOF
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(list(ALPN))
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    elif tls.ca:
        context.load_verify_locations(cadata=tls.ca)
    else:
        context.load_default_certs()
    if tls.cert:
        _load_chain(context, Chain(tls.cert, tls.key))
    return context


def _one_identity(tls: ServerTls, identity: Identity) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # The client knows best what is fast on its processor: all that we offer is sound.
    context.options &= ~(_IGNORE_EOF | ssl.OP_CIPHER_SERVER_PREFERENCE)
    context.options |= ssl.OP_NO_RENEGOTIATION
    # OpenSSL would give two, at 6 % of a handshake's time each: a client that opens several connections gets a ticket on each of them.
    context.num_tickets = 1
    context.minimum_version = _VERSIONS[tls.min_version]
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(list(ALPN))
    for chain in identity.chains:
        _load_chain(context, chain)
    context.verify_mode = _CLIENT_AUTH[tls.client_auth]
    if tls.client_auth != "none":
        context.load_verify_locations(cadata=tls.client_ca)
        if tls.client_crl:
            with _as_file(tls.client_crl) as path:
                context.load_verify_locations(cafile=path)
            context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    return context


def _load_chain(context: ssl.SSLContext, chain: Chain) -> None:
    with _as_file(chain.cert) as cert, _as_file(chain.key) as key:
        context.load_cert_chain(cert, key, password=_no_password)


def _no_password() -> NoReturn:
    # Without this OpenSSL would ask at the terminal.
    raise ValueError("the private key is encrypted")


@contextmanager
def _as_file(text: str) -> Iterator[str]:
    """The name of a file with this text, that is nowhere but in memory."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(text.encode())
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
