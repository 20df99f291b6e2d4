"""A proxy that speaks TLS to its clients or its backends, and clients and backends that do."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import trio

from balancer.net.contexts import ClientTls, ServerTls
from balancer.telemetry import table as cells
from tests.proxy.ends import PATIENCE, End, Origin, Script, answers
from tests.proxy.harness import Front, backend, front
from tests.support.certificates import Authority, Files, server_tls


def trusting(authority: Authority) -> ssl.SSLContext:
    """What a client has that trusts the authority."""
    context = ssl.create_default_context(cafile=str(authority.file))
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    return context


@asynccontextmanager
async def secure(
    *origins: Origin, site: Files | ServerTls, listener: dict[str, Any] | None = None, **more: Any
) -> AsyncIterator[Front]:
    """A proxy whose listener speaks TLS."""
    tls = site if isinstance(site, ServerTls) else server_tls(site)
    told = {"listeners": {"web": tls.to_json()}, "backends": {}}
    async with front(*origins, listener={"tls": True, **(listener or {})}, tls=told, **more) as proxy:
        yield proxy


@asynccontextmanager
async def client(
    proxy: Front, context: ssl.SSLContext, name: str = "localhost", bye: bool = True
) -> AsyncIterator[tuple[End, trio.SSLStream[trio.SocketStream]]]:
    """A connection after its handshake; bye: it says close_notify in the end."""
    plain = await trio.open_tcp_stream(*proxy.address)
    stream = trio.SSLStream(plain, context, server_hostname=name)
    try:
        with trio.fail_after(PATIENCE):
            await stream.do_handshake()
        yield End(stream), stream  # type: ignore[arg-type]
    finally:
        with trio.move_on_after(1, shield=True):
            if bye:
                with suppress(trio.BrokenResourceError):
                    await stream.aclose()
            await plain.aclose()


def handshakes(proxy: Front) -> tuple[int, int, int]:
    """(full, resumed, failed)."""
    sums = proxy.table.listener_sums(0)
    return sums[cells.HANDSHAKES_FULL], sums[cells.HANDSHAKES_RESUMED], sums[cells.HANDSHAKES_FAILED]


def speaking(site: Files, script: Script = answers, **options: Any) -> Script:
    """A backend's script over TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.cert, site.key)
    if "ca" in options:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(options["ca"])

    async def run(origin: Origin, end: End) -> None:
        stream = trio.SSLStream(end.stream, context, server_side=True)
        try:
            await stream.do_handshake()
        except trio.BrokenResourceError:
            return
        await script(origin, End(stream))  # type: ignore[arg-type]

    return run


@asynccontextmanager
async def towards(origin: Origin, tls: ClientTls, **more: Any) -> AsyncIterator[Front]:
    """A plain proxy in front of a backend that speaks TLS."""
    async with trio.open_nursery() as nursery:
        await nursery.start(origin.run)
        told = {"listeners": {}, "backends": {"x": tls.to_json()}}
        async with front(backends=(backend(0, origin.port, tls="x"),), tls=told, **more) as proxy:
            yield proxy
        nursery.cancel_scope.cancel()
