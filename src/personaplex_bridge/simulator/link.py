"""A bad network between a stand-in and the bridge: messages come late, but in order, as in TCP."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from personaplex_bridge.clock import Clock
from personaplex_bridge.simulator.faults import Jitter, Spell, after

M = TypeVar("M", str, bytes)


class Link(Generic[M]):
    """One connection with `jitter` on the way out, and stalled both ways in the spells `block`.

    Zero is the clock's reading when the link is made. What waits here is bounded by the length of
    the jitter and the spells: neither stand-in sends more than it hears or speaks meanwhile.
    """

    def __init__(
        self,
        send: Callable[[M], Awaitable[None]],
        clock: Clock,
        jitter: Jitter | None,
        block: Sequence[Spell],
    ) -> None:
        began = clock.now()
        self._send: Callable[[M], Awaitable[None]] = send
        self._clock = clock
        self._jitter = jitter
        self._spell = jitter.spell.since(began) if jitter and jitter.spell else None
        self._random = random.Random(jitter.seed if jitter else 0)
        self._blocks = [spell.since(began) for spell in block]
        self._latest = began
        self._under_way: asyncio.Queue[tuple[float, M]] = asyncio.Queue()

    async def put(self, message: M) -> None:
        """Send a message: it arrives in its time, while `deliver` runs."""
        now = self._clock.now()
        # What was sent later can't overtake.
        self._latest = after(self._blocks, max(self._latest, now + self._delay_s(now)))
        self._under_way.put_nowait((self._latest, message))

    async def deliver(self) -> None:
        """Hand on what was sent, for ever; into the void once the connection is gone."""
        while True:
            due, message = await self._under_way.get()
            await self._clock.sleep_until(due)
            with contextlib.suppress(ConnectionError):  # whoever reads the socket sees the end
                await self._send(message)
            self._under_way.task_done()

    async def unblocked(self) -> None:
        """Return once the socket is read: at once, unless it is blocked."""
        now = self._clock.now()
        if (end := after(self._blocks, now)) > now:
            await self._clock.sleep_until(end)

    async def emptied(self) -> None:
        """Return once all that was sent has been handed on."""
        await self._under_way.join()

    def _delay_s(self, now: float) -> float:
        if self._jitter is None or (self._spell is not None and not self._spell.covers(now)):
            return 0.0
        if self._jitter.one_in > 1 and self._random.randrange(self._jitter.one_in):
            return 0.0
        return self._random.uniform(self._jitter.least_ms, self._jitter.most_ms) / 1000
