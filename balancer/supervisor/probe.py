"""Asking a backend whether it is well: a TCP connect, or a GET whose status and body are checked."""

import errno
import os
import random
import socket
import sys
from typing import Final

import trio

from balancer.errors import BalancerError
from balancer.supervisor.spec import ProbeSpec, UpstreamTls

MAX_BODY: Final = 64 * 1024  # bytes of the answer in which `health.body` is looked for


class ProbeFailed(BalancerError):
    """It did not pass; the text says why. status: of its HTTP response, if there was one."""

    status: int | None = None


class WrongAnswer(ProbeFailed):
    """It did answer, and so is alive, but not as it should."""


async def probe(
    host: str, port: int, spec: ProbeSpec, listening: socket.socket | None = None, authority: str = ""
) -> int | None:
    """One probe; passes by returning: the status of its HTTP response, None for a TCP connect. Raises ProbeFailed.

    host: an IP address, or "unix:/path"; authority: for Host, if not those;
    listening: the socket that is connected to, where it is ours; a TCP connect then says nothing, so the connection must be accepted.
    """
    try:
        with trio.fail_after(spec.timeout):
            plain = await _connect(host, port)
            try:
                stream = plain if spec.tls is None else await _secured(plain, spec.tls)
                if spec.path:
                    return await _ask(stream, authority or _authority(host, port), spec)
                if listening is not None:
                    await _accepted(listening)
                return None
            finally:
                plain.socket.close()
    except trio.TooSlowError:
        raise ProbeFailed(f"no answer within {spec.timeout:g} s") from None
    except OSError as error:
        # trio adds the address to the text, and people know which backend it is about.
        raise ProbeFailed(os.strerror(error.errno) if error.errno else str(error)) from error


def pause(spec: ProbeSpec, first: bool) -> float:
    """Seconds until the next probe; the first one at random, so that many backends are not probed in one instant."""
    return random.uniform(0, spec.interval) if first else spec.interval


async def _connect(host: str, port: int) -> trio.SocketStream:
    if host.startswith("unix:"):
        sock = trio.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        address: object = host.removeprefix("unix:")
    else:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        sock = trio.socket.socket(family, kind, protocol)
    try:
        await sock.connect(address)
        # A connect to a free port of the ephemeral range may be given that very port and meet itself.
        if not host.startswith("unix:") and sock.getsockname() == sock.getpeername():
            raise ConnectionRefusedError(errno.ECONNREFUSED, "it met itself")
        return trio.SocketStream(sock)
    except BaseException:
        sock.close()
        raise


async def _secured(plain: trio.SocketStream, tls: UpstreamTls) -> trio.abc.Stream:
    from balancer.supervisor.material import probe_context, stamp_of

    try:
        context = probe_context(tls, stamp_of(tls.paths))
        stream = trio.SSLStream(plain, context, server_hostname=tls.server_name or None, https_compatible=True)
        await stream.do_handshake()
    except (BalancerError, trio.BrokenResourceError) as error:
        raise ProbeFailed(f"no TLS: {_gist(error)}") from None
    return stream


def _gist(error: Exception) -> str:
    """What is behind an error of trio's: OpenSSL's words, if it has some."""
    cause = error.__cause__ or error
    found = getattr(cause, "verify_message", "") or getattr(cause, "reason", "") or str(cause)
    return str(found).lower().replace("_", " ")


async def _accepted(listening: socket.socket) -> None:
    """Until nothing waits in its queue: a process that accepts has emptied it at some moment."""
    wait = 0.001
    while queue_length(listening):
        await trio.sleep(wait)  # what another process does: there is no event to wait for
        wait = min(wait * 2, 0.05)


def queue_length(listening: socket.socket) -> int:
    """How many connections wait to be accepted: tcpi_unacked, which means that on a listening socket (net/ipv4/tcp.c)."""
    info = listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32)
    return int.from_bytes(info[24:28], sys.byteorder)


async def _ask(stream: trio.abc.Stream, authority: str, spec: ProbeSpec) -> int:
    """The status. Raises ProbeFailed, and what the network raises."""
    from balancer.http1.peer import ClientPeer, PeerError  # not before the first HTTP probe: a start should be quick

    peer = ClientPeer()
    try:
        fields = [("Host", authority), ("User-Agent", "balancer-probe"), ("Connection", "close")]
        await stream.send_all(peer.request("GET", spec.path, fields))
        while (head := peer.response_head()) is None:
            data = await stream.receive_some(MAX_BODY)
            if not data:
                raise ProbeFailed("it closed the connection before a whole HTTP response head")
            peer.feed(bytes(data))
        if not any(first <= head.status <= last for first, last in spec.status):
            raise _wrong(f"status {head.status}", head.status)
        if spec.body is None:
            return head.status
        body = peer.pieces()
        while not peer.done and len(body) < MAX_BODY:
            peer.feed(bytes(await stream.receive_some(MAX_BODY)))
            body += peer.pieces()
    except (PeerError, trio.BrokenResourceError) as error:
        why = f" ({gist})" if (gist := _gist(error)) else ""
        raise ProbeFailed(f"no whole HTTP response{why}") from None
    if spec.body.search(body[:MAX_BODY]) is None:
        raise _wrong("the body does not contain what health.body asks for", head.status)
    return head.status


def _wrong(why: str, status: int) -> WrongAnswer:
    wrong = WrongAnswer(why)
    wrong.status = status
    return wrong


def _authority(host: str, port: int) -> str:
    if host.startswith("unix:"):
        return "localhost"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
