"""The admin API: INTERFACE of `/metrics`, `/healthz`, `/readyz` and `/api/v1/…` over HTTP/1.1, on loopback and the control socket."""

from collections.abc import Sequence
from dataclasses import dataclass

import trio

from balancer.admin.operations import Operations


@dataclass(frozen=True, slots=True)
class Limits:
    """What one client may take. Durations are seconds, sizes bytes."""

    head_timeout: float = 10.0  # a whole request, head and body
    idle_timeout: float = 60.0  # between two requests of a connection
    write_timeout: float = 30.0  # one piece of an answer, until the kernel has taken it
    body_size: int = 64 * 1024
    connections: int = 64  # at once per `serve`; the newcomer waits


async def serve(
    operations: Operations,
    *,
    listeners: Sequence[trio.SocketListener],
    local: bool = False,
    token: str = "",
    address: str = "",
    limits: Limits = Limits(),
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on these listeners until cancelled; they are closed at the end.

    local: they are the control socket, which only the owner can open: everything is allowed without a token.
    token: what `Authorization: Bearer …` must carry for anything but GET, and on an address that is not loopback for
    everything but /healthz and /readyz; "": such requests are refused. address: "host:port" as configured ("" when local):
    beside the loopback names, what `Host` may say.
    """
    raise NotImplementedError
