"""Node's own messages: what is one, what it means, and the exact lines that Node 20 was seen to take."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from balancer.channel import node
from tests.channel.test_lines import JSON

ASKED = {
    "cmd": "NODE_CLUSTER",
    "act": "queryServer",
    "index": 0,
    "data": None,
    "address": None,
    "port": 3000,
    "addressType": 4,
    "seq": 7,
}


def asked(**changes: Any) -> node.Listen:
    message = node.cluster_message({**ASKED, **changes})
    assert isinstance(message, node.Listen)
    return message


@given(value=JSON)
def test_a_programs_own_messages_are_never_internal(value: Any) -> None:
    assert not node.is_internal(value)
    assert not node.is_internal({"cmd": "node", "data": value})


@given(value=st.dictionaries(st.sampled_from([*ASKED, "fd", "key", "accepted"]), JSON))
def test_no_internal_message_is_too_strange(value: dict[str, Any]) -> None:
    for act in ("queryServer", "listening", "close"):
        message = {**value, "cmd": "NODE_CLUSTER", "act": act}
        assert node.is_internal(message)
        found = node.cluster_message(message)
        assert found is None or isinstance(found, node.Listen | node.Act)


def test_what_is_asked_for() -> None:
    assert asked().is_tcp
    assert (asked().port, asked().address, asked().seq) == (3000, "", 7)
    assert not asked(addressType=-1, port=-1, address="/run/app.sock").is_tcp
    assert not asked(addressType="udp4").is_tcp
    assert not asked(fd=3).is_tcp
    assert not asked(port=True, addressType="4").is_tcp
    # Two that differ in nothing but their number are two.
    assert len({asked().key, asked(index=1).key, asked(port=3001).key, asked(address="::1", addressType=6).key}) == 4


def test_the_lines_that_node_takes() -> None:
    listen = asked()
    reply = {"cmd": "NODE_CLUSTER", "ack": 7, "errno": 0, "key": listen.key, "data": None}
    assert node.socket_answer(listen) == {"cmd": "NODE_HANDLE", "type": "net.Native", "msg": reply}
    sockname = {"address": "::1", "family": "IPv6", "port": 3000}
    assert node.connections_answer(listen, "::1", 3000) == reply | {"sockname": sockname}
    assert node.refusal(listen, 98) == reply | {"errno": -98}
    passed = node.connection_to(listen)
    assert (passed["cmd"], passed["type"], passed["msg"]["act"]) == ("NODE_HANDLE", "net.Native", "newconn")
    assert passed["msg"]["key"] == listen.key
    assert node.connection() == {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "connection"}


def test_other_acts() -> None:
    left = node.cluster_message({"cmd": "NODE_CLUSTER", "act": "exitedAfterDisconnect", "seq": 3})
    assert isinstance(left, node.Act)
    assert node.acknowledgement(left) == {"cmd": "NODE_CLUSTER", "ack": 3}
    declined = node.cluster_message({"cmd": "NODE_CLUSTER", "ack": 0, "accepted": False})
    assert declined == node.Act(name="", seq=None, key="", port=-1, accepted=False)
    assert node.cluster_message({"cmd": "NODE_HANDLE_ACK"}) is None
