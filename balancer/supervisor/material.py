"""Certificates and keys: read here, where the rights to read them are, and handed to the proxies as text.

They travel in a message of their own, ahead of any snapshot that needs them, and appear nowhere else: not in the status, not in a
log, not on a command line. Files are looked at every few seconds; what is new and sound is used for new connections, what is not
leaves what was there.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import trio

from balancer.errors import BalancerError
from balancer.net.contexts import Chain, ClientTls, Identity, ServerTls, client_context, server_context
from balancer.settings.model import Settings, Tls
from balancer.supervisor.spec import UpstreamTls, upstream_tls
from balancer.supervisor.truth import Truth
from balancer.telemetry.events import Events
from balancer.telemetry.readings import CertificateReading

LOOK_INTERVAL: Final = 2.0  # seconds
WARN_INTERVAL: Final = 86400.0  # seconds between two warnings of the same date

Stamp = tuple[tuple[int, int, int] | None, ...]


class Given(NamedTuple):
    """All of it at one time: by listener, by `UpstreamTls.id`; stamp: of the files."""

    servers: dict[str, ServerTls]
    clients: dict[str, ClientTls]
    stamp: Stamp
    certificates: list[CertificateReading]


class Material:
    """What the proxies were given last. tell: sends to all of them; log: (level, event, fields)."""

    def __init__(
        self,
        truth: Truth,
        events: Events,
        tell: Callable[[Any], object],
        log: Callable[[str, str, Mapping[str, Any]], None],
    ) -> None:
        self._truth = truth
        self._events = events
        self._tell = tell
        self._log = log
        self._given = Given({}, {}, (), [])

    @property
    def certificates(self) -> list[CertificateReading]:
        """Those of listeners."""
        return self._given.certificates

    def message(self) -> dict[str, Any] | None:
        """What a proxy is to hear before its first snapshot; None without any TLS."""
        if not self._given.servers and not self._given.clients:
            return None
        return {
            "type": "tls",
            "listeners": {name: tls.to_json() for name, tls in self._given.servers.items()},
            "backends": {id: tls.to_json() for id, tls in self._given.clients.items()},  # noqa: A001
        }

    def load(self, settings: Settings) -> "Given":
        """Read all that these settings name, and give it to the proxies; what they had before, for `restore`.

        Raises BalancerError, and then nothing has changed.
        """
        stamp = stamp_of(_paths(settings))
        certificates: list[CertificateReading] = []
        servers = {
            name: _server(name, listen.tls, certificates)
            for name, listen in settings.listen.items()
            if listen.tls is not None
        }
        clients = {spec.id: client_tls(spec) for spec in _upstreams(settings)}
        used = {backend.tls for backend in self._truth.backends.values()}
        kept = {id: tls for id, tls in self._given.clients.items() if id in used}  # noqa: A001
        try:
            for server in servers.values():
                server_context(server)
            for client in clients.values():
                client_context(client)
        except (OSError, ValueError) as error:
            raise BalancerError(f"TLS settings do not work: {error}") from None
        before = self._given
        self.restore(Given(servers, kept | clients, stamp, certificates))
        return before

    def restore(self, given: "Given") -> None:
        """Give the proxies this."""
        self._given = given
        message = self.message()
        if message is not None:
            self._tell(message)

    def try_again(self) -> None:
        """As `load` with the settings in force; what cannot be read leaves what was there, and is said."""
        settings = self._truth.settings
        try:
            self.load(settings)
        except BalancerError as error:
            # Not tried again before it changes.
            self._given = self._given._replace(stamp=stamp_of(_paths(settings)))
            self._events.record("certificates rejected", reason=str(error))
        else:
            self._events.record("certificates renewed", listeners=", ".join(self._given.servers))

    async def watch(self) -> None:
        """Look at the files, and at the calendar, for ever."""
        seen = self._given.stamp
        warned = -WARN_INTERVAL
        while True:
            if time.monotonic() - warned >= WARN_INTERVAL and self.certificates:
                warned = time.monotonic()
                self._warn()
            await trio.sleep(LOOK_INTERVAL)
            now = stamp_of(_paths(self._truth.settings))
            # A certificate and its key are two files: both have come when nothing changes any more.
            if now != self._given.stamp and now == seen:
                self.try_again()
            seen = now

    def _warn(self) -> None:
        from balancer.settings.certificates import late_words

        for one in self.certificates:
            words = late_words(one.not_before, one.not_after, time.time())
            if words:
                self._log("warning", f"the certificate {one.path} {words}", {"listener": one.listener})


def stamp_of(paths: Iterable[str]) -> Stamp:
    """What tells that a file has changed."""
    stamps: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            found = os.stat(path)
            stamps.append((found.st_mtime_ns, found.st_size, found.st_ino))
        except OSError:
            stamps.append(None)
    return tuple(stamps)


def client_tls(spec: UpstreamTls) -> ClientTls:
    """Its files as text. Raises BalancerError."""
    from balancer.settings.certificates import read_authorities, read_credential

    ca = read_authorities(spec.ca) if spec.ca else ""
    if not spec.cert:
        return ClientTls(spec.server_name, spec.verify, ca)
    own = read_credential(spec.cert, spec.key)
    return ClientTls(spec.server_name, spec.verify, ca, own.cert, own.key)


@lru_cache(maxsize=64)
def probe_context(spec: UpstreamTls, stamp: Stamp) -> Any:
    """The `ssl` context for probes; stamp: of the files, so that new ones make a new one. Raises BalancerError."""
    try:
        return client_context(client_tls(spec))
    except (OSError, ValueError) as error:
        raise BalancerError(str(error)) from None


def _server(name: str, tls: Tls, certificates: list[CertificateReading]) -> ServerTls:
    from balancer.settings.certificates import Credential, read_authorities, read_credential, read_revoked

    # OpenSSL keeps a certificate for each kind of key and gives each client what it understands: one identity, not two.
    identities: dict[tuple[str, ...], list[Credential]] = {}
    for certificate in tls.certificates:
        found = read_credential(certificate.cert, certificate.key)
        certificates.append(CertificateReading(name, found.path, found.not_before, found.not_after))
        same = identities.setdefault(tuple(sorted(found.names)), [])
        if found.kind not in {other.kind for other in same}:
            same.append(found)
    return ServerTls(
        identities=tuple(
            Identity(names, tuple(Chain(one.cert, one.key) for one in same)) for names, same in identities.items()
        ),
        min_version=tls.min_version,
        client_auth=tls.client_auth,
        client_ca=read_authorities(tls.client_ca) if tls.client_ca else "",
        client_crl=read_revoked(tls.client_crl) if tls.client_crl else "",
    )


def _upstreams(settings: Settings) -> Iterator[UpstreamTls]:
    for pool in settings.pool.values():
        for group in pool.groups:
            spec = upstream_tls(group)
            if spec is not None:
                yield spec


def _paths(settings: Settings) -> list[str]:
    found: list[str] = []
    for listen in settings.listen.values():
        if listen.tls is not None:
            for certificate in listen.tls.certificates:
                found += [certificate.cert, certificate.key]
            found += [listen.tls.client_ca, listen.tls.client_crl]
    for spec in _upstreams(settings):
        found += spec.paths
    return [path for path in found if path]
