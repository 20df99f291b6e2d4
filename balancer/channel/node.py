"""What Node.js programs and their parent say to each other on the channel beside the program's own messages.

Node's internal messages are JSON objects whose `cmd` begins with "NODE_". A descriptor travels with a NODE_HANDLE message, which
the receiver acknowledges; `msg` in it is what the program, or Node's cluster module, gets with it. A program started with
NODE_UNIQUE_ID takes its parent for the primary of its `cluster` and asks it for each listening socket, in one of two ways: it
gets the socket itself, or is told to expect accepted connections (lib/internal/child_process.js and lib/internal/cluster/child.js
of Node.js; tried with Node 20). Pure: messages in, messages out.
"""

from dataclasses import dataclass
from typing import Any, Final

INTERNAL: Final = "NODE_"
# In the form of libuv's error numbers, which is what Node's cluster module passes on to `listen`.
DISCONNECT: Final = {"cmd": "NODE_CLUSTER", "act": "disconnect"}


@dataclass(frozen=True, slots=True)
class Listen:
    """A program called `listen`: "queryServer", in Node's words."""

    seq: int
    key: str  # tells the listen calls of one process apart
    address: str  # "" for none given
    port: int  # -1 for a path; 0 for any
    is_tcp: bool  # false: a path, a datagram socket or a descriptor of the program's own


@dataclass(frozen=True, slots=True)
class Act:
    """Any other message of the cluster module: "online", "listening", "close", "exitedAfterDisconnect" …; "" for an answer to us."""

    name: str
    seq: int | None
    key: str
    port: int
    accepted: bool  # of an answer to a passed connection


def is_internal(value: Any) -> bool:
    """Whether it is Node's own business and no message of the program."""
    return isinstance(value, dict) and str(value.get("cmd", "")).startswith(INTERNAL)


def cluster_message(value: dict[str, Any]) -> Listen | Act | None:
    """What an internal message says to a cluster's primary; None when it is not for one, or makes no sense."""
    if value.get("cmd") != "NODE_CLUSTER":
        return None
    seq = value.get("seq")
    number = seq if isinstance(seq, int) else None
    address, port, kind = value.get("address"), value.get("port"), value.get("addressType")
    if value.get("act") == "queryServer":
        if number is None:
            return None
        fd = value.get("fd")
        is_own = isinstance(fd, int) and fd >= 0  # listen({fd: 3}): the program has the socket already
        tcp = kind in (4, 6) and isinstance(port, int) and 0 <= port < 65536 and not is_own
        # As Node's primary tells them apart: the index counts the listen calls that are otherwise the same.
        key = ":".join(str(part) for part in (address, port, kind, value.get("fd"), value.get("index")))
        return Listen(
            seq=number,
            key=key,
            address=address if isinstance(address, str) else "",
            port=port if isinstance(port, int) else -1,
            is_tcp=tcp,
        )
    return Act(
        name=str(value.get("act", "")),
        seq=number,
        key=str(value.get("key", "")),
        port=port if isinstance(port, int) else -1,
        accepted=bool(value.get("accepted", True)),
    )


def socket_answer(listen: Listen) -> dict[str, Any]:
    """The line with which the bound socket goes that was asked for."""
    return {"cmd": "NODE_HANDLE", "type": "net.Native", "msg": _answer(listen, 0)}


def connections_answer(listen: Listen, address: str, port: int) -> dict[str, Any]:
    """No socket: accepted connections will come, each with a `connection_to` line. address, port: what `server.address()` shows."""
    family = "IPv6" if ":" in address else "IPv4"
    return _answer(listen, 0) | {"sockname": {"address": address, "family": family, "port": port}}


def refusal(listen: Listen, errno: int) -> dict[str, Any]:
    """The `listen` call fails with this error, one of `errno`'s."""
    return _answer(listen, -errno)


def acknowledgement(act: Act) -> dict[str, Any]:
    """For what the child waits until it is known here."""
    return {"cmd": "NODE_CLUSTER", "ack": act.seq}


def connection_to(listen: Listen) -> dict[str, Any]:
    """The line with which an accepted connection goes to a server that got `connections_answer`."""
    message = {"cmd": "NODE_CLUSTER", "act": "newconn", "key": listen.key, "seq": 0}
    return {"cmd": "NODE_HANDLE", "type": "net.Native", "msg": message}


def connection() -> dict[str, Any]:
    """The line with which an accepted connection goes to a program that takes them by itself: `process.on('message', (m, socket) => …)`."""
    return {"cmd": "NODE_HANDLE", "type": "net.Socket", "msg": "connection"}


def _answer(listen: Listen, errno: int) -> dict[str, Any]:
    return {"cmd": "NODE_CLUSTER", "ack": listen.seq, "errno": errno, "key": listen.key, "data": None}
