"""What is said about certificates and keys: files that OpenSSL would refuse, and dates."""

import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from balancer.settings.certificates import CertificateError, late_words, read_authorities, read_credential, read_revoked
from balancer.settings.load import read
from balancer.settings.tls import warnings
from tests.support.certificates import Authority

DAY = 86400.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_names_kind_and_dates_are_read(authority: Authority) -> None:
    files = authority.issue("Example.com", "*.example.com", "127.0.0.1", kind=trustme.KeyType.RSA)
    found = read_credential(str(files.cert), str(files.key))
    assert found.names == ("example.com", "*.example.com", "127.0.0.1")
    assert "RSA" in found.kind
    assert found.not_before < datetime.now(UTC).timestamp() < found.not_after
    assert "PRIVATE" not in repr(found)


def test_one_file_may_have_both(authority: Authority) -> None:
    files = authority.issue("a.example")
    both = files.cert.with_suffix(".pem")
    both.write_bytes(files.key.read_bytes() + files.cert.read_bytes())
    assert read_credential(str(both), "").names == ("a.example",)


def test_an_encrypted_key_is_named_as_such(authority: Authority) -> None:
    files = authority.issue("a.example")
    key = load_pem_private_key(files.key.read_bytes(), None)
    files.key.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    with pytest.raises(CertificateError, match="is encrypted") as caught:
        read_credential(str(files.cert), str(files.key))
    assert caught.value.is_key


def test_a_key_that_does_not_belong_is_found(authority: Authority) -> None:
    one, other = authority.issue("a.example"), authority.issue("b.example")
    with pytest.raises(CertificateError, match="does not belong to the certificate"):
        read_credential(str(one.cert), str(other.key))


def test_a_chain_in_the_wrong_order_is_found(authority: Authority) -> None:
    files = authority.issue("a.example")
    files.cert.write_bytes(authority.pem + files.cert.read_bytes())
    with pytest.raises(CertificateError, match="does not come first"):
        read_credential(str(files.cert), str(files.key))


@pytest.mark.parametrize("content", [b"", b"nothing of the kind", b"\0\1\2", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
def test_files_that_are_something_else(authority: Authority, tmp_path: Path, content: bytes) -> None:
    files = authority.issue("a.example")
    wrong = tmp_path / "wrong"
    wrong.write_bytes(content)
    for read_it in (
        lambda: read_credential(str(wrong), str(files.key)),
        lambda: read_credential(str(files.cert), str(wrong)),
        lambda: read_authorities(str(wrong)),
        lambda: read_revoked(str(wrong)),
    ):
        with pytest.raises(CertificateError, match="wrong"):
            read_it()
    with pytest.raises(CertificateError, match="no such file"):
        read_authorities(str(tmp_path / "nowhere"))


@pytest.mark.needs("openssl", why="keys that are too short")
def test_a_key_that_is_too_short_is_refused_in_openssls_words(tmp_path: Path) -> None:
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:1024", "-nodes", "-keyout", "k", "-out", "c", "-subj", "/CN=a", "-days", "9"],
        cwd=tmp_path, check=True, capture_output=True, timeout=20,
    )  # fmt: skip
    with pytest.raises(CertificateError, match="key too small"):
        read_credential(str(tmp_path / "c"), str(tmp_path / "k"))


@pytest.mark.parametrize(
    ("life", "left", "words"),
    [
        (90, 30, ""),
        (90, 13.9, "expires on"),
        (365, 15, ""),
        (6, 2, ""),
        (6, 0.9, "expires on"),
        (90, 0, "expired on"),
        (90, -1, "expired on"),
        (90, 91, "is not valid before"),
    ],
)
def test_dates(life: float, left: float, words: str) -> None:
    now = 1_700_000_000.0
    end = now + left * DAY
    said = late_words(end - life * DAY, end, now)
    assert said.startswith(words)
    assert bool(said) == bool(words)


def test_revocation_lists(authority: Authority, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    revoked = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "us")]))
        .last_update(now)
        .next_update(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    file = tmp_path / "revoked.pem"
    file.write_bytes(revoked.public_bytes(Encoding.PEM) * 2)
    assert read_revoked(str(file)).count("BEGIN X509 CRL") == 2


def test_check_finds_wrong_files_with_their_lines_and_warns_of_dates(authority: Authority, tmp_path: Path) -> None:
    files, other = authority.issue("a.example"), authority.issue("b.example")
    text = f"""
[listen.web]
address = "127.0.0.1:8443"
[listen.web.tls]
certificates = [{{cert = "{files.cert}", key = "KEY"}}]
[pool.web]
[[pool.web.group]]
address = "127.0.0.1:9000"
"""
    with pytest.raises(Exception, match=r"cluster.toml:5: listen.web.tls.certificates\[0\].key: .* does not belong"):
        read(text.replace("KEY", str(other.key)), str(tmp_path / "cluster.toml"))
    settings = read(text.replace("KEY", str(files.key)), str(tmp_path / "cluster.toml"))
    assert warnings(settings, datetime.now(UTC).timestamp()) == []
    (said,) = warnings(settings, datetime(9999, 1, 1, tzinfo=UTC).timestamp())
    assert said.startswith("listen.web.tls.certificates[0]: the certificate in")
    assert "expire" in said
