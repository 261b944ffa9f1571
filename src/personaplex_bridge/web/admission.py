"""Whether a call may come in: is there a model server for it, and does this bridge take calls?"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from personaplex_bridge.errors import ModelBusy, ModelUnavailable
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.pool import ModelPool

RESERVE_TIMEOUT_S = 10.0
"""Twilio waits 15 s for the answer."""


class Admission:
    """The door. `calls` tells how many are in."""

    def __init__(self, pool: ModelPool, max_calls: int, calls: Callable[[], int]) -> None:
        self.pool = pool
        self.is_closed = False
        """While True, the bridge is being drained: no call comes in."""
        self._max_calls = max_calls
        self._calls = calls

    @property
    def is_full(self) -> bool:
        """Whether there are as many calls as MAX_CALLS allows."""
        return self._calls() >= self._max_calls

    async def reserve(self, call: str, role: Role, *, patient: bool = True) -> None:
        """Take a model server for a call, in the time that Twilio gives.

        Who isn't `patient` comes again: the pool doesn't wait for what another bridge is giving up.

        Raises:
            ModelBusy: all are taken, others are ahead in line, or the bridge is full.
            ModelUnavailable: every one is down, or nobody can say in time.
        """
        if self.is_full:
            raise ModelBusy(f"there are {self._max_calls} calls, as many as MAX_CALLS allows")
        try:
            async with asyncio.timeout(RESERVE_TIMEOUT_S):
                await self.pool.reserve(call, role, patient=patient)
        except TimeoutError:
            raise ModelUnavailable("no model server could be reserved in time") from None
