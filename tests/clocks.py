"""A clock that a test moves by hand."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass
class HandClock:
    """Stands still until `at_s` is set."""

    at_s: float = 1000.0

    def now(self) -> float:
        return self.at_s

    async def sleep_until(self, moment: float) -> None:
        raise AssertionError("nobody may wait for this clock")

    async def happens(self, event: asyncio.Event, moment: float) -> bool:
        raise AssertionError("nobody may wait for this clock")
