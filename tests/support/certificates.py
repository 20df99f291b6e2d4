"""Certificates for tests: an authority of their own, and files as a user has them."""

from dataclasses import dataclass
from pathlib import Path

import trustme

from balancer.net.contexts import Chain, Identity, ServerTls


@dataclass(frozen=True)
class Files:
    """One certificate: its PEM files, and the same as text."""

    cert: Path
    key: Path

    @property
    def chain(self) -> Chain:
        """As it travels."""
        return Chain(self.cert.read_text(), self.key.read_text())

    @property
    def toml(self) -> str:
        """As an element of `certificates`."""
        return f'{{cert = "{self.cert}", key = "{self.key}"}}'


class Authority:
    """An authority whose certificates lie in a folder."""

    def __init__(self, folder: Path, name: str = "ca") -> None:
        self.folder = folder
        self.ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
        self.file = folder / f"{name}.pem"
        self.file.write_bytes(self.pem)

    @property
    def pem(self) -> bytes:
        """Its own certificate."""
        return self.ca.cert_pem.bytes()

    def issue(self, *names: str, stem: str = "", kind: trustme.KeyType = trustme.KeyType.ECDSA) -> Files:
        """A certificate for these names, in files called after the first of them or `stem`."""
        leaf = self.ca.issue_cert(*names, key_type=kind)
        stem = stem or names[0].replace("*", "any")
        files = Files(self.folder / f"{stem}.crt", self.folder / f"{stem}.key")
        files.cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        files.key.write_bytes(leaf.private_key_pem.bytes())
        return files


def server_tls(*files: Files, names: tuple[str, ...] = (), **more: str) -> ServerTls:
    """The settings of a listener with these certificates; each answers to the name that its file is called after."""
    identities = tuple(Identity((f.cert.stem.replace("any", "*"),), (f.chain,)) for f in files)
    return ServerTls(identities, **more)
