"""Injected time.

Everything that waits for, or reads, wall time takes a `Clock`, so that tests and simulations can
run the same code faster than real time. Media time is counted in samples and needs no clock.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Monotonic seconds, and a way to wait for them."""

    def now(self) -> float:
        """Seconds on a monotonic clock with an arbitrary zero."""
        ...

    async def sleep_until(self, moment: float) -> None:
        """Return once `now()` has reached `moment`; at once if it is past."""
        ...

    async def happens(self, event: asyncio.Event, moment: float) -> bool:
        """Wait for `event`, until `moment` at most; whether it is set."""
        ...


class ScaledClock:
    """A clock that runs `speed` times as fast as the wall's (1.0 is real time)."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed

    def now(self) -> float:
        """Scaled seconds."""
        return time.monotonic() * self._speed

    async def sleep_until(self, moment: float) -> None:
        """Wait until the scaled clock reads `moment`."""
        await asyncio.sleep(self._real_s(moment))

    async def happens(self, event: asyncio.Event, moment: float) -> bool:
        """Wait for `event`, until the scaled clock reads `moment` at most; whether it is set."""
        return await _happens(event, self._real_s(moment))

    def _real_s(self, moment: float) -> float:
        return max(0.0, (moment - self.now()) / self._speed)


class LoopClock:
    """The running event loop's own time: virtual in a loop whose time is virtual.

    For simulations and tests. A uvloop counts whole milliseconds and stands still while a callback
    runs, so measurements in real time take `SYSTEM_CLOCK`.
    """

    def now(self) -> float:
        """The running loop's `time()`."""
        return asyncio.get_running_loop().time()

    async def sleep_until(self, moment: float) -> None:
        """Wait until the loop's time is `moment`."""
        await asyncio.sleep(max(0.0, moment - self.now()))

    async def happens(self, event: asyncio.Event, moment: float) -> bool:
        """Wait for `event`, until the loop's time is `moment` at most; whether it is set."""
        return await _happens(event, max(0.0, moment - self.now()))


async def _happens(event: asyncio.Event, within_s: float) -> bool:
    try:
        async with asyncio.timeout(within_s):
            await event.wait()
    except TimeoutError:
        pass
    return event.is_set()


SYSTEM_CLOCK = ScaledClock()
