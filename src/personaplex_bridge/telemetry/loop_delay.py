"""How late the event loop is: what waits for it, sound included, waits so much longer."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry, Histogram

from personaplex_bridge.telemetry.buckets import LOOP_S
from personaplex_bridge.telemetry.metrics import PREFIX

EVERY_S = 0.1


class LoopDelay:
    """Sleeps, and looks how much longer it took than it should have."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._delay = Histogram(
            f"{PREFIX}event_loop_delay_seconds",
            "How late the event loop was, ten times a second. A frame of sound has 0.02 s.",
            registry=registry,
            buckets=LOOP_S,
        )

    async def run(self) -> None:
        """Measure, for ever."""
        loop = asyncio.get_running_loop()
        while True:
            due_s = loop.time() + EVERY_S
            await asyncio.sleep(EVERY_S)
            self._delay.observe(max(0.0, loop.time() - due_s))
