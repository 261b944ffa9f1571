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


class ScaledClock:
    """A clock that runs `speed` times as fast as the wall's (1.0 is real time)."""

    def __init__(self, speed: float = 1.0) -> None:
        self._speed = speed

    def now(self) -> float:
        """Scaled seconds."""
        return time.monotonic() * self._speed

    async def sleep_until(self, moment: float) -> None:
        """Wait until the scaled clock reads `moment`."""
        await asyncio.sleep(max(0.0, (moment - self.now()) / self._speed))


SYSTEM_CLOCK = ScaledClock()
