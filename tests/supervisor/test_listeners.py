"""Listening sockets: one per proxy on one port, given up and taken back singly, never shared with another balancer."""

import socket
from pathlib import Path

import pytest

from balancer.settings.address import Address
from balancer.settings.model import Listen
from balancer.supervisor.listeners import CannotBind, ListenerSockets


def listen(address: Address) -> dict[str, Listen]:
    return {"web": Listen.model_construct(address=address, backlog=16)}


def test_each_proxy_has_a_socket_of_its_own_on_one_port() -> None:
    sockets = ListenerSockets(listen(Address("127.0.0.1", 0)), 3)
    try:
        mine = [sockets.of(proxy)["web"] for proxy in range(3)]
        assert len({sock.fileno() for sock in mine}) == 3
        port = mine[0].getsockname()[1]
        assert {sock.getsockname()[1] for sock in mine} == {port}
        assert sockets.addresses == {"web": f"127.0.0.1:{port}"}
        with pytest.raises(CannotBind, match="already in use"):
            ListenerSockets(listen(Address("127.0.0.1", port)), 1)
        sockets.give_up(1)
        for _ in range(20):
            socket.create_connection(("127.0.0.1", port)).close()
        sockets.restore(1)
        assert sockets.of(1)["web"].getsockname()[1] == port
    finally:
        sockets.close()


def test_what_backends_accept_themselves_waits_for_no_acknowledgement() -> None:
    sockets = ListenerSockets(listen(Address("127.0.0.1", 0)), 1, {"web"})
    try:
        with socket.create_connection(sockets.place("web")):
            shared = sockets.shared("web")
            shared.setblocking(True)
            with shared.accept()[0] as accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    finally:
        sockets.close()


def test_further_ones_are_refused_until_they_are_taken_over(tmp_path: Path) -> None:
    sockets = ListenerSockets(listen(Address("127.0.0.1", 0)), 2)
    path = tmp_path / "more.sock"
    more = {"more": listen(Address("127.0.0.1", 0))["web"], "unix": listen(Address("", 0, str(path)))["web"]}
    try:
        others = ListenerSockets(more, 2, is_open=False)
        place = others.place("more")
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place)
        sockets.give_up(1)
        sockets.take_over(others)
        assert list(sockets.addresses) == list(sockets.of(0)) == ["web", "more", "unix"]
        # A proxy that cannot be kept alive gets none of these either.
        for _ in range(20):
            with socket.create_connection(place):
                sockets.of(0)["more"].accept()[0].close()
        sockets.restore(1)
        assert sockets.of(1)["more"].getsockname() == place
        socket.create_connection(sockets.place("more")).close()
    finally:
        sockets.close()
    assert not path.exists()


def test_a_unix_socket_is_shared_replaced_when_stale_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "web.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    sockets = ListenerSockets(listen(Address("", 0, str(path))), 2)
    assert sockets.of(0)["web"] is sockets.of(1)["web"]
    with pytest.raises(CannotBind, match="already in use"):
        ListenerSockets(listen(Address("", 0, str(path))), 1)
    sockets.close()
    assert not path.exists()


def test_what_cannot_be_bound_is_said_with_the_key() -> None:
    with pytest.raises(CannotBind, match=r"listen\.web: cannot listen on 192\.0\.2\.1:80: no such address"):
        ListenerSockets(listen(Address("192.0.2.1", 80)), 1)
