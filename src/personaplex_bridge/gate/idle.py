"""Stopping the pod when nobody calls: it costs as long as it runs."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from personaplex_bridge import logs
from personaplex_bridge.errors import RunPodError
from personaplex_bridge.gate.condition import Condition
from personaplex_bridge.gate.meters import Meters
from personaplex_bridge.runpod.api import RunPod

FIRST_PAUSE_S, MAX_PAUSE_S = 2.0, 60.0
STOPPED_S = 600.0
"""How long a pod that is being stopped may still run before it is told again."""

_log = logging.getLogger(f"{logs.NAME}.gate")


@dataclass(frozen=True, slots=True)
class IdleStop:
    """Which pod to stop, and after how long. `run` is a task for as long as the gate runs."""

    runpod: RunPod
    """Entered, as the context manager that it is."""
    pod_id: str
    idle_s: float
    meters: Meters
    condition: Condition

    async def run(self) -> None:
        """Stop the pod whenever no caller's audio has passed for so long, counted from the moment
        when the model was up or had failed. A connection alone is no call: bridges keep one warm.
        """
        await self.condition.settled()
        clock = self.meters.clock
        began_s, pause_s = clock.now(), FIRST_PAUSE_S
        while True:
            while (left_s := self._left_s(began_s)) > 0:
                await clock.sleep_until(clock.now() + left_s)
                pause_s = FIRST_PAUSE_S
            if await self._stop():
                await asyncio.sleep(STOPPED_S)
            else:
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, MAX_PAUSE_S)

    def _left_s(self, began_s: float) -> float:
        last_s = max(began_s, self.meters.audio_s or began_s)
        return last_s + self.idle_s - self.meters.clock.now()

    async def _stop(self) -> bool:
        minutes = self.idle_s / 60
        _log.warning("nobody has called for %g minutes: stopping this pod", minutes)
        try:
            await self.runpod.act(self.pod_id, "stop")
        except RunPodError as error:
            _log.error(
                "the pod can't be stopped, and goes on costing: %s. It is tried again, at most "
                "every %g s",
                error,
                MAX_PAUSE_S,
            )
            return False
        _log.warning("RunPod stops this pod; `personaplex-bridge runpod start` starts it again")
        return True
