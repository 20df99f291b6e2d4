"""Contexts made of text: what they offer, whom they believe, and what they keep to themselves."""

import ssl
from datetime import UTC, datetime, timedelta

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from balancer.net.contexts import Chain, ClientTls, Identity, ServerTls, client_context, server_context
from tests.support.certificates import Authority, Files, server_tls


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def shake(
    server: ssl.SSLContext, client: ssl.SSLContext, name: str = "localhost"
) -> tuple[ssl.SSLObject, ssl.SSLObject]:
    """Both ends after a handshake in memory. Raises ssl.SSLError of whichever end objects."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(up, down, server_side=True)
    theirs = client.wrap_bio(down, up, server_hostname=name)
    for _ in range(4):
        for end in (theirs, ours):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                pass
    return ours, theirs


def revoking(authority: Authority, *files: Files, days: int = 1) -> str:
    """A revocation list of the authority with these certificates, as PEM."""
    ca = x509.load_pem_x509_certificate(authority.pem)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(ca.subject)
        .last_update(now - timedelta(days=2))
        .next_update(now + timedelta(days=days))
    )
    for one in files:
        serial = x509.load_pem_x509_certificate(one.cert.read_bytes()).serial_number
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now).build()
        )
    key = load_pem_private_key(authority.ca.private_key_pem.bytes(), None)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()  # type: ignore[arg-type]


def showing(authority: Authority, files: Files) -> ssl.SSLContext:
    """A client that shows a certificate."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.load_cert_chain(files.cert, files.key)
    # The server's refusal is part of the handshake only here.
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    return context


def test_a_revoked_certificate_is_refused(authority: Authority) -> None:
    site, good, bad = authority.issue("localhost"), authority.issue("good.example"), authority.issue("bad.example")
    tls = server_tls(
        site, client_auth="required", client_ca=authority.pem.decode(), client_crl=revoking(authority, bad)
    )
    ours, _ = shake(server_context(tls), showing(authority, good))
    assert ours.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(good.cert.read_text())
    with pytest.raises(ssl.SSLCertVerificationError, match="revoked"):
        shake(server_context(tls), showing(authority, bad))


def test_an_old_revocation_list_lets_nobody_in(authority: Authority) -> None:
    site, good = authority.issue("localhost"), authority.issue("good.example")
    crl = revoking(authority, days=-1)
    tls = server_tls(site, client_auth="required", client_ca=authority.pem.decode(), client_crl=crl)
    with pytest.raises(ssl.SSLCertVerificationError, match="CRL has expired"):
        shake(server_context(tls), showing(authority, good))


def test_one_identity_may_have_two_kinds_of_key(authority: Authority) -> None:
    kinds = {
        "ECDSA": authority.issue("localhost", stem="ecdsa"),
        "RSA": authority.issue("localhost", stem="rsa", kind=trustme.KeyType.RSA),
    }
    tls = ServerTls((Identity(("localhost",), tuple(files.chain for files in kinds.values())),))
    for kind, files in kinds.items():
        client = ssl.create_default_context(cafile=str(authority.file))
        client.maximum_version = ssl.TLSVersion.TLSv1_2
        client.set_ciphers(f"ECDHE-{kind}-AES128-GCM-SHA256")
        _, theirs = shake(server_context(tls), client)
        assert theirs.getpeercert(binary_form=True) == ssl.PEM_cert_to_DER_cert(files.cert.read_text())


def test_nothing_weak_is_offered(authority: Authority) -> None:
    context = server_context(server_tls(authority.issue("localhost")))
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    for cipher in context.get_ciphers():
        assert cipher["protocol"] in ("TLSv1.2", "TLSv1.3")
        assert cipher["aead"]
        assert "ECDHE" in cipher["name"] or cipher["protocol"] == "TLSv1.3"
    assert context.options & ssl.OP_NO_RENEGOTIATION
    assert not context.options & ssl.OP_IGNORE_UNEXPECTED_EOF


def test_secrets_are_not_in_what_is_printed(authority: Authority) -> None:
    files = authority.issue("localhost")
    shown = ClientTls("localhost", cert=files.cert.read_text(), key=files.key.read_text())
    for value in (files.chain, server_tls(files), shown):
        assert "PRIVATE" not in repr(value)


def test_it_travels_whole(authority: Authority) -> None:
    tls = server_tls(authority.issue("localhost"), authority.issue("*.b.example"), min_version="1.3")
    assert ServerTls.from_json(tls.to_json()) == tls


def test_an_encrypted_key_asks_nobody(authority: Authority) -> None:
    """OpenSSL would ask for the password at the terminal, and wait."""
    files = authority.issue("localhost")
    kind, lock = "RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-256-CBC,00112233445566778899AABBCCDDEEFF"
    key = f"-----BEGIN {kind}-----\n{lock}\n\nAAAA\n-----END {kind}-----\n"
    with pytest.raises((ssl.SSLError, ValueError)):
        server_context(ServerTls((Identity(("x",), (Chain(files.cert.read_text(), key),)),)))


def test_a_backend_is_verified_unless_it_is_said_otherwise(authority: Authority) -> None:
    server = server_context(server_tls(authority.issue("localhost")))
    shake(server, client_context(ClientTls("localhost", ca=authority.pem.decode())))
    shake(server, client_context(ClientTls("elsewhere", verify=False)), "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        shake(server, client_context(ClientTls("elsewhere", ca=authority.pem.decode())), "elsewhere")
    with pytest.raises(ssl.SSLCertVerificationError, match="unable to get local issuer"):
        shake(server, client_context(ClientTls("localhost")))


def test_one_ticket_for_each_connection(authority: Authority) -> None:
    """A second one would be made for each client, and used by few."""
    tls = server_tls(authority.issue("localhost"))
    assert {server_context(tls).num_tickets, server_context(ServerTls(tls.identities * 2)).num_tickets} == {1}
