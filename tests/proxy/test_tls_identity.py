"""Who a client is, and where it is sent: client certificates, from http to https, and staying there."""

import base64
import ssl

import pytest
import trio

from tests.proxy.ends import Origin
from tests.proxy.harness import GET, front
from tests.proxy.secure import client, handshakes, secure, trusting
from tests.support.certificates import Authority, Files, server_tls


@pytest.mark.parametrize("is_trusted", [False, True])
async def test_a_client_cannot_claim_a_certificate(is_trusted: bool) -> None:
    """Neither on a plain listener, nor through a proxy that is believed in other things and may pass on anything."""
    origin = Origin()
    networks = ("127.0.0.0/8",) if is_trusted else ()
    async with front(origin, listener={"trusted_proxies": networks}) as proxy:
        await proxy.ask(
            b"GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AAAA:\r\nclient_cert: :BBBB:\r\nCLIENT-CERT-CHAIN: :CCCC:\r\nX: y\r\n\r\n"
        )
        names = [name.lower().replace("_", "-") for name, _ in origin.requests[0].fields]
        assert not any(name.startswith("client-cert") for name in names)
        assert "x" in names


async def test_a_verified_client_is_told_to_the_backend(authority: Authority, site: Files) -> None:
    tls = server_tls(site, client_auth="optional", client_ca=authority.pem.decode())
    person = authority.issue("person.example")
    origin = Origin()
    async with secure(origin, site=tls) as proxy:
        context = trusting(authority)
        context.load_cert_chain(person.cert, person.key)
        async with client(proxy, context) as (end, _):
            await end.send(b"GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AAAA:\r\n\r\n")
            await end.response()
        async with client(proxy, trusting(authority)) as (end, _):
            await end.send(b"GET / HTTP/1.1\r\nHost: a\r\nClient-Cert: :AAAA:\r\n\r\n")
            await end.response()
    der = base64.b64encode(ssl.PEM_cert_to_DER_cert(person.cert.read_text())).decode()
    assert origin.requests[0].one("client-cert") == f":{der}:"
    assert not origin.requests[1].has("client-cert")


async def test_a_client_certificate_that_is_required(authority: Authority, site: Files) -> None:
    tls = server_tls(site, client_auth="required", client_ca=authority.pem.decode())
    stranger = Authority(authority.folder, "stranger").issue("stranger.example")
    async with secure(Origin(), site=tls) as proxy:
        for files, alert in ((None, "certificate required"), (stranger, "unknown ca")):
            context = trusting(authority)
            if files is not None:
                context.load_cert_chain(files.cert, files.key)
            # In TLS 1.3 a client is through before the server has looked at its certificate.
            async with client(proxy, context, bye=False) as (_, stream):
                with pytest.raises(trio.BrokenResourceError) as caught:
                    await stream.receive_some(1)
            assert alert in str(caught.value.__cause__)
        await proxy.idle()
        assert handshakes(proxy) == (0, 0, 2)


# From http to https, and staying there.


@pytest.mark.parametrize(
    ("host", "port", "location"),
    [
        (b"a.example", 8443, "https://a.example/x?y=1"),
        (b"a.example:8080", 8443, "https://a.example:8443/x?y=1"),
        (b"a.example:8080", 443, "https://a.example/x?y=1"),
        (b"[::1]:8080", 8443, "https://[::1]:8443/x?y=1"),
        (b"[::1]", 8443, "https://[::1]/x?y=1"),
    ],
)
async def test_redirect(host: bytes, port: int, location: str) -> None:
    origin = Origin()
    async with front(origin, listener={"redirect": "https", "redirect_port": port}) as proxy, proxy.client() as end:
        for method in (b"GET", b"POST"):
            await end.send(method + b" /x?y=1 HTTP/1.1\r\nHost: %s\r\n\r\n" % host)
            answer = await end.response()
            assert answer.status == 308
            assert answer.one("location") == location
            assert answer.one("x-request-id")
        assert not origin.opened
        assert proxy.codes() == {"308": 2}


async def test_redirect_of_a_request_with_a_body_and_of_one_without_a_host() -> None:
    async with front(Origin(), listener={"redirect": "https"}) as proxy:
        answer = await proxy.ask(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n")
        assert (answer.status, answer.one("connection")) == (308, "close")
        assert (await proxy.ask(b"GET / HTTP/1.0\r\n\r\n")).status == 400


async def test_hsts(authority: Authority, site: Files) -> None:
    own = b"HTTP/1.1 200 OK\r\nStrict-Transport-Security: max-age=1; preload\r\nContent-Length: 0\r\n\r\n"
    for answer, value in (
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "max-age=100"),
        (own, "max-age=1; preload"),
    ):
        front_door = secure(Origin(answer=answer), site=site, listener={"hsts": 100})
        async with front_door as proxy, client(proxy, trusting(authority)) as (end, _):
            await end.send(GET)
            assert (await end.response()).one("strict-transport-security") == value
    front_door = secure(Origin(), site=site, listener={"hsts": 100, "pool": ""})
    async with front_door as proxy, client(proxy, trusting(authority)) as (end, _):
        await end.send(GET)
        own_answer = await end.response()
        assert (own_answer.status, own_answer.one("strict-transport-security")) == (404, "max-age=100")
