"""Moments in which this process stood still: whatever it measures then says nothing of others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

TICK_S = 0.02
STALL_S = 0.04
"""A process that comes so much too late (half a model frame) was held up, or worked too long."""


async def watch_stalls(tell: Callable[[float, float], None]) -> None:
    """Look every tick, for ever; tell of stalls, from when to when (monotonic)."""
    while True:
        due_s = time.monotonic() + TICK_S
        await asyncio.sleep(TICK_S)
        if (now_s := time.monotonic()) - due_s >= STALL_S:
            tell(due_s, now_s)
