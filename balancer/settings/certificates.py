"""Certificates and keys as they lie in files: read, judged, and told in words what is wrong with them. The only door to cryptography."""

import ssl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from balancer.errors import BalancerError

LARGEST = 4 * 1024 * 1024  # bytes of one file: a bundle of authorities has some 200 KB
# A certificate that should have been renewed by now: half of what Let's Encrypt leaves (a third of the life), two weeks at most.
_LATE = 1 / 6
_LATEST = 14 * 86400.0


class CertificateError(BalancerError):
    """A file cannot be used; the text says which and why. is_key: it is about the file of the key."""

    def __init__(self, text: str, is_key: bool = False) -> None:
        super().__init__(text)
        self.is_key = is_key


@dataclass(frozen=True, slots=True)
class Credential:
    """A certificate with its chain and its key, fit for use.

    names: in lower case, "*.example.com" and IP addresses among them; kind: of the key, as OpenSSL keeps one certificate for each;
    not_before, not_after: Unix seconds; cert, key: PEM text.
    """

    path: str
    names: tuple[str, ...]
    kind: str
    not_before: float
    not_after: float
    cert: str
    key: str = field(repr=False)


def read_credential(cert: str, key: str) -> Credential:
    """Read both files; key "": it is in the certificate's file too. Raises CertificateError."""
    text = read_text(cert)
    chain = _certificates(cert, text)
    key_text = read_text(key, is_key=True) if key else text
    key_path = key or cert
    try:
        private = load_pem_private_key(key_text.encode(), None)
    except TypeError:
        raise CertificateError(
            f"the private key in '{key_path}' is encrypted, and nobody is there to be asked for its password; "
            "remove it with: openssl pkey -in KEY -out NEW",
            is_key=True,
        ) from None
    except Exception as error:  # whatever the library thinks of what is in there
        raise CertificateError(f"'{key_path}' holds no private key in PEM that can be used", is_key=True) from error
    wanted = _public(private.public_key())
    if _public(chain[0].public_key()) != wanted:
        if any(_public(other.public_key()) == wanted for other in chain[1:]):
            raise CertificateError(f"the certificate that the key belongs to does not come first in '{cert}'")
        raise CertificateError(f"the key in '{key_path}' does not belong to the certificate in '{cert}'", is_key=True)
    _try(cert, key_path)
    leaf = chain[0]
    return Credential(
        path=cert,
        names=tuple(dict.fromkeys(_names(leaf))),
        kind=type(private).__name__,
        not_before=leaf.not_valid_before_utc.timestamp(),
        not_after=leaf.not_valid_after_utc.timestamp(),
        cert=text,
        key=key_text,
    )


def read_authorities(path: str) -> str:
    """The PEM text of a file with certificates of authorities. Raises CertificateError."""
    text = read_text(path)
    _certificates(path, text)
    return text


def read_revoked(path: str) -> str:
    """The PEM text of a file with revocation lists. Raises CertificateError."""
    text = read_text(path)
    marker = "-----BEGIN X509 CRL-----"
    lists = [marker + part for part in text.split(marker)[1:]]
    try:
        for one in lists:
            x509.load_pem_x509_crl(one.encode())
    except ValueError as error:
        raise CertificateError(f"'{path}' holds a revocation list that cannot be read") from error
    if not lists:
        raise CertificateError(f"'{path}' holds no revocation list in PEM")
    return text


def read_text(path: str, is_key: bool = False) -> str:
    """The text of a PEM file. Raises CertificateError."""
    try:
        with Path(path).open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise CertificateError(f"'{path}' cannot be read: {why}", is_key) from None
    if len(data) > LARGEST or b"\0" in data:
        raise CertificateError(f"'{path}' is no PEM file", is_key)
    return data.decode("utf-8", "replace")


def late_words(not_before: float, not_after: float, now: float) -> str:
    """What is to be said of a certificate that has run out, runs out soon or is not valid yet; "" if nothing. Unix seconds."""
    date = datetime.fromtimestamp(not_after, UTC).strftime("%Y-%m-%d %H:%M UTC")
    if now >= not_after:
        return f"expired on {date}"
    if now < not_before:
        return f"is not valid before {datetime.fromtimestamp(not_before, UTC).strftime('%Y-%m-%d %H:%M UTC')}"
    if not_after - now < min(_LATEST, (not_after - not_before) * _LATE):
        return f"expires on {date}"
    return ""


def _certificates(path: str, text: str) -> Sequence[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        what = "a certificate that cannot be read" if "BEGIN CERTIFICATE" in text else "no certificate in PEM"
        raise CertificateError(f"'{path}' holds {what}") from error


def _public(key: object) -> bytes:
    found: bytes = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]
    return found


def _names(leaf: x509.Certificate) -> Iterator[str]:
    try:
        found = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        # RFC 9525 has done away with common names; browsers ignore them, SNI does not look at the certificate at all.
        for common in leaf.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME):
            yield str(common.value).lower()
        return
    for name in found.get_values_for_type(x509.DNSName):
        yield name.lower()
    for address in found.get_values_for_type(x509.IPAddress):
        yield str(address)


def _try(cert: str, key: str) -> None:
    """What OpenSSL itself has against them: a key that is too short, for one."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert, key, password=_no_password)
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        why = str(reason).lower().replace("_", " ") if reason else str(error)
        raise CertificateError(f"'{cert}' cannot be used: {why}") from None


def _no_password() -> NoReturn:
    raise ValueError("the private key is encrypted")
