"""How streams have ended, for Twilio to be told what comes after them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from personaplex_bridge.clock import Clock
from personaplex_bridge.record import Ending

KEPT_S = 120.0
"""Twilio asks at once, and again if it gets no answer in 15 s."""

MAX_OUTCOMES = 10_000
"""As many as there may be calls in a process. The oldest go first."""


@dataclass(slots=True)
class _Outcome:
    ending: Ending
    ended_s: float
    is_asked: bool = False


class Outcomes:
    """The last ending of each call, for a while."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._outcomes: dict[str, _Outcome] = {}  # the oldest first
        self._asked = asyncio.Event()

    def __len__(self) -> int:
        """How many are remembered."""
        return len(self._outcomes)

    def ended(self, call_sid: str, ending: Ending) -> None:
        """A call's stream has ended. One without a call is nobody's."""
        self._forget()
        before = self._outcomes.pop(call_sid, None)
        if call_sid:
            is_asked = before is not None and before.is_asked and before.ending == ending
            self._outcomes[call_sid] = _Outcome(ending, self._clock.now(), is_asked)

    def of(self, call_sid: str) -> Ending | None:
        """How the call's last stream ended, if that is known. Twilio asks."""
        self._forget()
        outcome = self._outcomes.get(call_sid)
        if outcome is None:
            return None
        outcome.is_asked = True
        self._asked.set()
        return outcome.ending

    async def all_asked(self, code: int, within_s: float) -> bool:
        """Wait until Twilio has asked about each stream that ended with a close code; whether it
        has, within so many seconds.
        """
        try:
            async with asyncio.timeout(within_s):
                while self._unasked(code):
                    self._asked.clear()
                    await self._asked.wait()
        except TimeoutError:
            return False
        return True

    def _unasked(self, code: int) -> bool:
        outcomes = self._outcomes.values()
        return any(one.ending.close_code == code and not one.is_asked for one in outcomes)

    def _forget(self) -> None:
        due_s = self._clock.now() - KEPT_S
        while self._outcomes:
            call_sid, oldest = next(iter(self._outcomes.items()))
            if oldest.ended_s > due_s and len(self._outcomes) < MAX_OUTCOMES:
                return
            del self._outcomes[call_sid]
