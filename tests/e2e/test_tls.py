"""A whole balancer that speaks TLS: with curl, openssl, a WebSocket client and Python's ssl; certificates that change under it."""

import json
import os
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import psutil
import pytest
import trio
from websockets.sync.client import connect

from tests.support.apps import pool
from tests.support.certificates import Authority, Files
from tests.support.running import Balancer, running

PATIENCE = 20.0


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def listeners(*files: Files, more: str = "") -> str:
    """A listener that sends everybody to https, and the one that speaks it."""
    certificates = ", ".join(f.toml for f in files)
    return f"""
[listen.web]
address = "127.0.0.1:0"
pool = "web"
redirect = "https"

[listen.secure]
address = "127.0.0.1:0"
pool = "web"

[listen.secure.tls]
certificates = [{certificates}]
{more}

"""


def port(balancer: Balancer, listener: str = "secure") -> int:
    return int(balancer.addresses[listener].rpartition(":")[2])


async def program(*command: str, given: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with trio.fail_after(PATIENCE):
        return await trio.run_process(command, stdin=given, capture_stdout=True, capture_stderr=True, check=False)


@asynccontextmanager
async def connection(balancer: Balancer, authority: Authority) -> AsyncIterator[trio.SSLStream[trio.SocketStream]]:
    context = ssl.create_default_context(cafile=str(authority.file))
    plain = await trio.open_tcp_stream("127.0.0.1", port(balancer))
    stream = trio.SSLStream(plain, context, server_hostname="localhost")
    with trio.fail_after(PATIENCE):
        await stream.do_handshake()
    yield stream
    await stream.transport_stream.aclose()


async def get(stream: trio.SSLStream[trio.SocketStream], target: str = "/") -> tuple[bytes, dict[str, str]]:
    """(head, the scripted backend's picture of the request)."""
    await stream.send_all(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    with trio.fail_after(PATIENCE):
        data = b""
        while b"\r\n\r\n" not in data:
            data += await stream.receive_some(65536) or b"\r\n\r\n"
        head, _, body = data.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        while len(body) < length:
            body += await stream.receive_some(65536)
    return head, dict(json.loads(body)["headers"])


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Another process's doing: there is no event to wait for."""
    with trio.fail_after(PATIENCE):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(0.05)


async def shown(balancer: Balancer) -> str:
    """The certificate that a new connection gets, as PEM."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    stream = await trio.open_ssl_over_tcp_stream("127.0.0.1", port(balancer), ssl_context=context)
    await stream.do_handshake()
    der = stream._ssl_object.getpeercert(binary_form=True)
    await stream.transport_stream.aclose()
    assert der
    return ssl.DER_cert_to_PEM_cert(der)


def leaf(files: Files) -> str:
    """The first certificate of a file, as PEM."""
    first, end, _ = files.cert.read_text().partition("-----END CERTIFICATE-----\n")
    return ssl.DER_cert_to_PEM_cert(ssl.PEM_cert_to_DER_cert(first + end))


@pytest.mark.needs("curl", "openssl", why="TLS as other programs speak it")
async def test_curl_and_openssl(authority: Authority) -> None:
    site, other = authority.issue("localhost"), authority.issue("*.b.example", "b.example", stem="b")
    text = listeners(site, other, more='hsts = "365d"') + pool("web", 1)
    async with running(text) as balancer:
        ca = ("--cacert", str(authority.file))
        where = f"http://localhost:{port(balancer, 'web')}/bytes?n=3000000"
        done = await program("curl", "-sS", "-i", "-L", *ca, where)
        assert done.stdout.startswith(b"HTTP/1.1 308"), done
        assert b"\r\n\r\nHTTP/1.1 200" in done.stdout
        assert b"Strict-Transport-Security: max-age=31536000\r\n" in done.stdout
        assert len(done.stdout) > 3_000_000
        named = ("--resolve", f"x.b.example:{port(balancer)}:127.0.0.1", f"https://x.b.example:{port(balancer)}/")
        done = await program("curl", "-sS", *ca, *named)
        assert json.loads(done.stdout)["method"] == "GET", done
        for version in ("-tls1_2", "-tls1_3"):
            done = await program(
                "openssl", "s_client", "-connect", f"127.0.0.1:{port(balancer)}", "-servername", "localhost", version,
                "-CAfile", str(authority.file), "-verify_return_error", "-alpn", "h2,http/1.1", "-ign_eof",
                given=b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            )  # fmt: skip
            assert b"ALPN protocol: http/1.1" in done.stdout, done
            assert b"HTTP/1.1 200" in done.stdout
            # Said with close_notify: s_client calls anything else an error.
            assert done.returncode == 0, done.stderr
        done = await program(
            "openssl", "s_client", "-connect", f"127.0.0.1:{port(balancer)}", "-tls1_1", "-cipher", "ALL:@SECLEVEL=0"
        )
        assert done.returncode != 0
        failed = 'balancer_tls_handshakes_total{listener="secure",result="failed"} 1.0'
        await until(lambda: measured(balancer, failed))
        text = await balancer.metrics()
        assert f'balancer_certificate_expiry_timestamp_seconds{{certificate="{site.cert}",listener="secure"}}' in text


async def test_a_websocket_over_tls(authority: Authority) -> None:
    context = ssl.create_default_context(cafile=str(authority.file))
    command = 'command = "python -m balancer.demo"\n'
    text = listeners(authority.issue("localhost")) + f"[pool.web]\n{command}"
    async with running(text) as balancer:

        def talk() -> list[str | bytes]:
            with connect(f"wss://localhost:{port(balancer)}/ws", ssl=context, close_timeout=5) as socket:
                socket.send("hello")
                said = [socket.recv(timeout=5)]
                socket.send(b"x" * 1_000_000)
                while not isinstance(said[-1], bytes) and len(said) < 10:
                    said.append(socket.recv(timeout=5))
                return said

        said = await trio.to_thread.run_sync(talk)
        assert any("hello" in str(one) for one in said)


async def test_new_files_are_for_new_connections_and_broken_ones_for_nobody(authority: Authority) -> None:
    site = authority.issue("localhost")
    async with running(listeners(site) + pool("web", 1)) as balancer, connection(balancer, authority) as kept:
        await get(kept)
        old = leaf(site)
        assert await shown(balancer) == old
        sound = site.key.read_bytes()
        # A key that does not fit, first seen by the look at the files, then by a reload.
        site.key.write_bytes(authority.issue("other.example").key.read_bytes())
        await until(lambda: said(balancer, "certificates rejected"))
        assert "does not belong to the certificate" in balancer.text
        assert await shown(balancer) == old
        done = await balancer.command("reload")
        assert done.returncode == 1
        assert "does not belong to the certificate" in done.stdout + done.stderr
        assert await shown(balancer) == old
        site.key.write_bytes(sound)
        renewed = authority.issue("localhost")
        assert leaf(renewed) != old
        await until(lambda: said(balancer, "certificates renewed"))
        # Said to the proxies in the same moment, who take it a moment later.
        await until(lambda: shows(balancer, renewed))
        # By SIGHUP it is at once, also with another file.
        third = authority.issue("localhost", stem="third")
        text = balancer.config.read_text()
        balancer.config.write_text(text.replace(site.toml, third.toml))
        assert (await balancer.command("reload")).returncode == 0
        assert await shown(balancer) == leaf(third)
        assert (await get(kept))[0].startswith(b"HTTP/1.1 200")


async def said(balancer: Balancer, part: str) -> bool:
    return part in balancer.text


async def measured(balancer: Balancer, line: str) -> bool:
    return line in await balancer.metrics()


async def shows(balancer: Balancer, files: Files) -> bool:
    return await shown(balancer) == leaf(files)


async def test_tls_comes_and_goes_with_a_reload(authority: Authority) -> None:
    site = authority.issue("localhost")
    plain = '[listen.secure]\naddress = "127.0.0.1:0"\npool = "web"\n\n' + pool("web", 1)
    async with running(plain) as balancer:
        assert (await balancer.get("/")).status_code == 200
        secure = f"\n[listen.secure.tls]\ncertificates = [{site.toml}]\n"
        before = balancer.config.read_text()
        balancer.config.write_text(before + secure)
        assert (await balancer.command("reload")).returncode == 0
        assert (await balancer.client.get(balancer.url, headers={"Connection": "close"})).status_code in (200, 400)
        async with connection(balancer, authority) as stream:
            assert (await get(stream))[0].startswith(b"HTTP/1.1 200")
        balancer.config.write_text(before)
        assert (await balancer.command("reload")).returncode == 0
        await until(lambda: answers_in_plain(balancer))


async def answers_in_plain(balancer: Balancer) -> bool:
    return (await balancer.get("/")).status_code == 200


async def test_the_key_is_seen_by_nobody_who_need_not_see_it(authority: Authority) -> None:
    """Proxies run as somebody who cannot read the file; it is in no argument, environment, status or log."""
    site = authority.issue("localhost")
    site.key.chmod(0o600)
    secret = site.key.read_text().splitlines()[1]
    is_root = os.geteuid() == 0
    user = '[proxy]\nuser = "nobody"\n' if is_root and allows_nobody() else ""
    text = listeners(site) + pool("web", 1) + user + '[log]\nlevel = "debug"\n'
    async with running(text) as balancer, connection(balancer, authority) as stream:
        assert (await get(stream))[0].startswith(b"HTTP/1.1 200")
        balancer.signal(signal.SIGHUP)
        await until(lambda: said(balancer, "reload finished"))
        for process in balancer.processes():
            assert secret not in str(process.cmdline()) + str(process.environ())
        seen = balancer.text + json.dumps(await balancer.status()) + await balancer.metrics()
        assert secret not in seen
        assert "PRIVATE KEY" not in seen
        if user:
            proxy = (await balancer.status())["proxies"][0]["pid"]
            assert psutil.Process(proxy).username() == "nobody"


def allows_nobody() -> bool:
    """Whether that user may run this interpreter from this checkout at all."""
    root = str(Path(__file__).parents[2])
    try:
        done = subprocess.run(
            [sys.executable, "-c", "import balancer.proxy.process"],
            cwd="/", env={"PYTHONPATH": root}, user="nobody", group="nogroup", extra_groups=[], timeout=20, capture_output=True,
        )  # fmt: skip
    except (OSError, LookupError):
        return False
    return done.returncode == 0


async def test_a_stop_ends_a_connection_with_its_last_word(authority: Authority) -> None:
    site = authority.issue("localhost")
    async with running(listeners(site) + pool("web", 1)) as balancer, connection(balancer, authority) as stream:
        await get(stream)
        balancer.signal(signal.SIGTERM)
        with trio.fail_after(PATIENCE):
            # b"" is close_notify; a connection that breaks off would raise.
            assert await stream.receive_some(1) == b""


async def test_a_pool_elsewhere_is_spoken_to_and_probed_over_tls(authority: Authority) -> None:
    """The balancer's own TLS listener is the backend elsewhere; it wants to know who asks."""
    site, us = authority.issue("inner.example"), authority.issue("us.example")
    inner = listeners(site, more=f'client_auth = "required"\nclient_ca = "{authority.file}"')
    async with running(inner + pool("web", 1)) as backend:

        def outer(tls: str) -> str:
            return f"""
[listen.front]
address = "127.0.0.1:0"

[[pool.elsewhere.group]]
address = "127.0.0.1:{port(backend)}"
tls = {{{tls}}}

[pool.elsewhere.health]
path = "/healthz"
interval = "100ms"
fall = 1
rise = 1
"""

        name, ca = 'server_name = "inner.example"', f'ca = "{authority.file}"'
        own = f'cert = "{us.cert}", key = "{us.key}"'
        async with running(outer(f"{name}, {ca}, {own}")) as front:
            answer = (await front.get("/")).json()
            headers = {key.lower(): value for key, value in answer["headers"]}
            assert headers["x-forwarded-proto"] == "https"
            assert headers["client-cert"].startswith(":MII")
        async with running(outer(f"{ca}, {own}"), ready=False) as front:
            await until(lambda: said(front, "mismatch"))
            assert (await front.get("/")).status_code == 503


async def test_a_wrong_file_is_a_line_and_nothing_starts(authority: Authority) -> None:
    one, other = authority.issue("a.example"), authority.issue("b.example")
    mixed = Files(one.cert, other.key)
    async with running(listeners(mixed) + pool("web", 1), ready=False, exit_code=2) as balancer:
        await balancer.wait()
        assert "listen.secure.tls.certificates[0].key: the key in" in balancer.text
