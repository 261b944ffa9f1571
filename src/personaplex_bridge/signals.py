"""SIGINT and SIGTERM, for programs that run until they are told to stop."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from contextlib import contextmanager

_STOP = (signal.SIGINT, signal.SIGTERM)


def unless_ignored(*numbers: signal.Signals) -> list[signal.Signals]:
    """These signals, but for SIGHUP under `nohup`, which is meant to outlive its terminal."""
    return [
        number
        for number in numbers
        if number is not signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]


@contextmanager
def heard(*numbers: signal.Signals) -> Iterator[asyncio.Queue[signal.Signals]]:
    """Inside the block these signals (SIGINT and SIGTERM, if none are named) end nothing by
    themselves: they are put into the queue.
    """
    told: asyncio.Queue[signal.Signals] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    listened_to = unless_ignored(*(numbers or _STOP))
    for number in listened_to:
        loop.add_signal_handler(number, told.put_nowait, number)
    try:
        yield told
    finally:
        for number in listened_to:
            loop.remove_signal_handler(number)  # another one ends the process at once


async def until_signal() -> None:
    """Wait for one of the two."""
    with heard() as told:
        await told.get()
