"""Ports: free, of nobody else, not one of a moment ago unless there is no other."""

import socket

import pytest

from balancer.supervisor.ports import NoPort, Ports
from tests.support.ports import free_port


def test_no_port_is_given_twice_while_it_is_held() -> None:
    ports = Ports()
    given = [ports.take("127.0.0.1", None) for _ in range(50)]
    assert len(set(given)) == 50
    for port in given:
        ports.give_back(port)
    assert not {ports.take("127.0.0.1", None) for _ in range(50)} & set(given)


def test_a_range_is_used_in_turn_and_what_others_hold_is_passed_over() -> None:
    first = free_port()
    ports = Ports()
    span = (first, first)
    assert ports.take("127.0.0.1", span) == first
    with pytest.raises(NoPort, match="no port from"):
        ports.take("127.0.0.1", span)
    ports.give_back(first)
    # The only one: better at once than not at all.
    assert ports.take("127.0.0.1", span) == first
    ports.give_back(first)
    with socket.create_server(("127.0.0.1", first)), pytest.raises(NoPort):
        ports.take("127.0.0.1", span)


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(NoPort, match="no address of this machine"):
        Ports().take("192.0.2.1", None)
