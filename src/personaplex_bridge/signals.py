"""SIGINT and SIGTERM, for programs that run until they are told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STOP = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def heard(*numbers: signal.Signals) -> Iterator[asyncio.Queue[signal.Signals]]:
    """Inside the block these signals (SIGINT and SIGTERM, if none are named) end nothing by
    themselves: they are put into the queue.
    """
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    for number in numbers or _STOP:
        loop.add_signal_handler(number, told.put_nowait, number)
    try:
        yield told
    finally:
        for number in numbers or _STOP:
            loop.remove_signal_handler(number)  # another one ends the process at once


async def until_signal() -> None:
    """Wait for one of the two."""
    with heard() as told:
        await told.get()
