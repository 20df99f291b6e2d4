"""The admin API: `/metrics`, `/healthz`, `/readyz` and `/api/v1/…` over HTTP/1.1, on loopback and the control socket.

The supervisor must not be hurt by who asks: connections are bounded and the one that has been silent longest makes room, every
wait has a deadline, and a mistake in one answer ends that answer only.
"""

import traceback
from collections.abc import Callable, Sequence

import trio

from balancer.admin.crowd import Crowd
from balancer.admin.exchange import DEFAULT_LIMITS, Exchange, Limits
from balancer.admin.guard import Guard
from balancer.admin.operations import Operations

__all__ = ["DEFAULT_LIMITS", "Limits", "serve"]

_NO_DESCRIPTOR_PAUSE = 0.1  # seconds; as trio.serve_listeners does when accept fails for want of descriptors


async def serve(
    operations: Operations,
    *,
    listeners: Sequence[trio.SocketListener],
    local: bool = False,
    token: str = "",
    address: str = "",
    limits: Limits = DEFAULT_LIMITS,
    on_crash: Callable[[Exception], object] = traceback.print_exception,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Answer on these listeners until cancelled; they are closed at the end.

    local: they are the control socket, which only the owner can open: everything is allowed without a token.
    token: what `Authorization: Bearer …` must carry for anything but GET, and on an address that is not loopback for
    everything but /healthz and /readyz; "": such requests are refused. address: the host as configured ("" when local):
    beside the loopback names, what `Host` may say. on_crash: told of exceptions that nobody expected.
    """
    exchange = Exchange(operations, None if local else Guard(address, token), limits, on_crash)
    crowd = Crowd(limits.connections)
    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(_accept, listener, exchange, crowd, nursery, name="admin.accept")
        task_status.started()


async def _accept(listener: trio.SocketListener, exchange: Exchange, crowd: Crowd, nursery: trio.Nursery) -> None:
    async with listener:
        while True:
            await crowd.room()
            try:
                stream = await listener.accept()
            except OSError:
                await trio.sleep(_NO_DESCRIPTOR_PAUSE)
                continue
            crowd.enter()
            nursery.start_soon(_converse, stream, exchange, crowd, name="admin.connection")


async def _converse(stream: trio.SocketStream, exchange: Exchange, crowd: Crowd) -> None:
    try:
        async with stream:
            await exchange.converse(stream, crowd)
    finally:
        crowd.leave()
