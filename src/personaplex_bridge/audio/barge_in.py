"""Whether the caller is interrupting the model, or only says "uh-huh"."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from personaplex_bridge.audio.mulaw import FRAME_MS

SUSPECTED_MS = 40
"""Voice for so long may be an interruption: the model's audio is held back."""
CERTAIN_MS = 400
"""Voice for so long is one. A backchannel of 300 ms and the 40 ms the detector adds stay below."""
OVER_MS = 80
"""Without voice for so long, it is over."""
QUEUED_MS = 200
"""With no more than this waiting to be played there is nothing worth clearing."""


class Verdict(Enum):
    """What to do about the model's audio that still waits."""

    PLAY = auto()
    HOLD = auto()
    CLEAR = auto()


class BargeIn:
    """Listens to the caller's frames while much model audio waits to be played.

    Onset and certainty are kept apart. At the first sign of voice nothing more leaves for Twilio,
    which falls silent as soon as the little it holds is played; only an utterance that goes on
    clears the rest, and a backchannel lets it play on.
    """

    def __init__(self) -> None:
        self._voice_ms = 0
        self._quiet_ms = 0
        self.waiting_ms = 0.0
        """How much of the model's audio waited when the present utterance began."""
        self._cleared = False

    def hear(self, voiced: bool, waiting_ms: Callable[[], float]) -> Verdict:
        """The verdict after one more frame of the caller.

        `waiting_ms` tells how much of the model's audio waits; asked only when voice begins.
        """
        if voiced:
            if self._voice_ms == 0:
                self.waiting_ms = waiting_ms()
            self._voice_ms += FRAME_MS
            self._quiet_ms = 0
        elif self._voice_ms:
            self._quiet_ms += FRAME_MS
            if self._quiet_ms >= OVER_MS:
                self._voice_ms = self._quiet_ms = 0
                self._cleared = False
        if self.waiting_ms <= QUEUED_MS or self._cleared or self._voice_ms < SUSPECTED_MS:
            return Verdict.PLAY
        if self._voice_ms < CERTAIN_MS:
            return Verdict.HOLD
        self._cleared = True
        return Verdict.CLEAR

    def end(self) -> None:
        """Nothing is heard of the caller any more: whatever they said is over."""
        self._voice_ms = self._quiet_ms = 0
        self._cleared = False
