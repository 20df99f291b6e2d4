"""What must hold of TLS settings: between keys, and in the files that they name.

The files are looked at only where there is TLS, and so is what can read them imported only then.
"""

from collections.abc import Callable, Iterator

from balancer.settings.checks import Finding
from balancer.settings.model import Listen, Settings, Tls
from balancer.settings.model_pool import Group, GroupTls
from balancer.settings.problems import Key, dotted


def findings(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong between the keys of valid settings."""
    for name, listener in settings.listen.items():
        yield from _listener(("listen", name), listener)
    for pool_name, pool in settings.pool.items():
        for index, group in enumerate(pool.group):
            if group.tls is not None:
                yield from _group(("pool", pool_name, "group", index), group, group.tls)


def file_findings(settings: Settings) -> Iterator[Finding]:
    """Everything that is wrong with the files."""
    for name, listener in settings.listen.items():
        if listener.tls is not None:
            yield from _listener_files(("listen", name, "tls"), listener.tls)
    for pool_name, pool in settings.pool.items():
        for index, group in enumerate(pool.group):
            if group.tls is not None:
                yield from _group_files(("pool", pool_name, "group", index, "tls"), group.tls)


def warnings(settings: Settings, now: float) -> list[str]:
    """A line for each certificate that has run out or soon will. now: Unix seconds. To be asked once all findings are mended."""
    from balancer.settings.certificates import late_words, read_credential

    said = []
    for key, cert, private in _credentials(settings):
        found = read_credential(cert, private)
        words = late_words(found.not_before, found.not_after, now)
        if words:
            said.append(f"{dotted(key)}: the certificate in '{cert}' {words}")
    return said


def _credentials(settings: Settings) -> Iterator[tuple[Key, str, str]]:
    for name, listener in settings.listen.items():
        for index, certificate in enumerate(listener.tls.certificates if listener.tls else ()):
            yield ("listen", name, "tls", "certificates", index), certificate.cert, certificate.key
    for pool_name, pool in settings.pool.items():
        for index, group in enumerate(pool.group):
            if group.tls is not None and group.tls.cert:
                yield ("pool", pool_name, "group", index, "tls", "cert"), group.tls.cert, group.tls.key


def _listener(key: Key, listener: Listen) -> Iterator[Finding]:
    tls, at = listener.tls, (*key, "tls")
    if tls is None:
        return
    if listener.redirect:
        yield Finding(
            (*key, "redirect"), "this listener speaks TLS itself: it would send its clients round in a circle"
        )
    if not tls.certificates:
        yield Finding(at, "needs certificates", about=((*at, "certificates"),))
    for index, certificate in enumerate(tls.certificates):
        if not certificate.cert:
            place = (*at, "certificates", index)
            yield Finding(place, "names no file; expected cert, and key unless the same file has both", about=(place,))
    if tls.client_auth != "none" and not tls.client_ca:
        yield Finding((*at, "client_auth"), f"'{tls.client_auth}' needs client_ca")
    for name in ("client_ca", "client_crl"):
        if tls.client_auth == "none" and getattr(tls, name):
            about = ((*at, name), (*at, "client_auth"))
            yield Finding((*at, name), "is only used when client_auth is optional or required", about=about)


def _group(key: Key, group: Group, tls: GroupTls) -> Iterator[Finding]:
    at = (*key, "tls")
    if group.address is None:
        about = (at, (*key, "address"))
        yield Finding(at, "is for backends elsewhere; what is started here is spoken to in plain", about=about)
        return
    if group.address.is_unix and tls.verify and not tls.server_name:
        yield Finding(
            at,
            "needs server_name: a Unix socket has no name that a certificate could be for",
            about=((*at, "server_name"),),
        )
    if tls.key and not tls.cert:
        yield Finding((*at, "key"), "has no use without cert", about=((*at, "key"), (*at, "cert")))
    if tls.ca and not tls.verify:
        yield Finding((*at, "ca"), "has no use with verify = false", about=((*at, "ca"), (*at, "verify")))


def _listener_files(key: Key, tls: Tls) -> Iterator[Finding]:
    from balancer.settings.certificates import read_authorities, read_revoked

    for index, certificate in enumerate(tls.certificates):
        if certificate.cert:
            yield from _pair((*key, "certificates", index), certificate.cert, certificate.key)
    yield from _file((*key, "client_ca"), tls.client_ca, read_authorities)
    yield from _file((*key, "client_crl"), tls.client_crl, read_revoked)


def _group_files(key: Key, tls: GroupTls) -> Iterator[Finding]:
    from balancer.settings.certificates import read_authorities

    yield from _file((*key, "ca"), tls.ca, read_authorities)
    if tls.cert:
        yield from _pair(key, tls.cert, tls.key)


def _pair(key: Key, cert: str, private: str) -> Iterator[Finding]:
    from balancer.settings.certificates import CertificateError, read_credential

    try:
        read_credential(cert, private)
    except CertificateError as error:
        yield Finding((*key, "key" if error.is_key and private else "cert"), str(error))


def _file(key: Key, path: str, read: Callable[[str], str]) -> Iterator[Finding]:
    from balancer.settings.certificates import CertificateError

    if path:
        try:
            read(path)
        except CertificateError as error:
            yield Finding(key, str(error))
