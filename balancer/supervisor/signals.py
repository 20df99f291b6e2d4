"""Signals only enqueue: one task turns each into an operation."""

import signal
from collections.abc import Callable, Mapping
from typing import Final

import trio

# Handled rather than ignored: an ignored signal would be inherited by every process that we start, a handled one is not.
NOT_AVAILABLE: Final = (signal.SIGUSR2,)


async def handle_signals(
    operations: Mapping[signal.Signals, Callable[[], None]],
    unavailable: Callable[[str], None],
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Call the operation of each signal as it comes, for ever; `unavailable(name)` for those that do nothing yet."""
    with trio.open_signal_receiver(*operations, *NOT_AVAILABLE) as arriving:
        task_status.started()
        async for number in arriving:
            received = signal.Signals(number)
            operation = operations.get(received)
            if operation is not None:
                operation()
            else:
                unavailable(received.name)
