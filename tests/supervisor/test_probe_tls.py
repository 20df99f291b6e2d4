"""Probes of a backend that speaks TLS."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from balancer.supervisor.probe import ProbeFailed, probe
from balancer.supervisor.spec import ProbeSpec, UpstreamTls
from tests.support.certificates import Authority, Files

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@asynccontextmanager
async def server(site: Files, authority: Authority, wants_certificate: bool = False) -> AsyncIterator[int]:
    """The port of one that answers every request over TLS with 200."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(site.cert, site.key)
    if wants_certificate:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(authority.file)

    async def serve(stream: trio.SSLStream[trio.SocketStream]) -> None:
        try:
            async with stream:
                await stream.receive_some(4096)
                await stream.send_all(OK)
        except trio.BrokenResourceError:
            pass

    async with trio.open_nursery() as nursery:
        (plain,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [trio.SSLListener(plain, context)])
        yield plain.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


def spec(authority: Authority, name: str = "localhost", *, us: Files | None = None, ca: bool = True) -> ProbeSpec:
    """How to ask: /healthz, over TLS."""
    files = (str(us.cert), str(us.key)) if us else ("", "")
    tls = UpstreamTls(name, True, str(authority.file) if ca else "", *files)
    return ProbeSpec(path="/healthz", timeout=5, tls=tls)


async def test_one_that_is_who_it_should_be_passes(authority: Authority) -> None:
    us = authority.issue("us.example")
    async with server(authority.issue("localhost"), authority, wants_certificate=True) as port:
        await probe("127.0.0.1", port, spec(authority, us=us))
        # In TLS 1.3 the client is through first, and hears of it when it reads.
        with pytest.raises(ProbeFailed, match=r"certificate required|closed the connection"):
            await probe("127.0.0.1", port, spec(authority))


@pytest.mark.parametrize("path", ["", "/healthz"])
async def test_another_does_not(authority: Authority, path: str) -> None:
    async with server(authority.issue("localhost"), authority) as port:
        for asked, why in (
            (spec(authority, "elsewhere.example"), "hostname mismatch"),
            (spec(authority, ca=False), "unable to get local issuer"),
        ):
            with pytest.raises(ProbeFailed, match=why):
                await probe("127.0.0.1", port, ProbeSpec(path=path, timeout=5, tls=asked.tls))


async def test_files_are_read_again_when_they_change(authority: Authority) -> None:
    async with server(authority.issue("localhost"), authority) as port:
        right = authority.file.read_bytes()
        authority.file.write_bytes(Authority(authority.folder, "other").pem)
        with pytest.raises(ProbeFailed, match="unable to get local issuer"):
            await probe("127.0.0.1", port, spec(authority))
        authority.file.write_bytes(right + b"\n")
        await probe("127.0.0.1", port, spec(authority))
        authority.file.unlink()
        with pytest.raises(ProbeFailed, match="no such file"):
            await probe("127.0.0.1", port, spec(authority))


async def test_one_that_speaks_no_tls_fails(authority: Authority) -> None:
    async def plain(stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some(4096)
            await stream.send_all(OK)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, plain, [listener])
        with pytest.raises(ProbeFailed, match="no TLS"):
            await probe("127.0.0.1", listener.socket.getsockname()[1], spec(authority))
        nursery.cancel_scope.cancel()
