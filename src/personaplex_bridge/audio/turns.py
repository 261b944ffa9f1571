"""Turn-taking: how long after the caller's last word the model's first is heard."""

from __future__ import annotations

from collections import deque

from personaplex_bridge.audio.mulaw import FRAME_MS

MAX_TURNS = 5_000
"""Delays kept: more turns than a call of four hours has."""
SPEECH_S = 0.1
"""Sound shorter than this is no speech."""
PAUSE_S = 0.3
"""Quiet for so long ends a turn."""


class _Talker:
    """When somebody talks."""

    def __init__(self) -> None:
        self.turns = 0
        self.began_s = float("-inf")
        """The latest turn's first frame."""
        self.last_s = float("-inf")
        """When the latest frame with sound ended."""
        self._first_s = float("-inf")
        self._talks = False

    def hear(self, sound: bool, at_s: float) -> bool:
        """Take a frame that ended at `at_s`; True if it makes sure that a new turn has begun."""
        if not sound:
            return False
        if at_s - self.last_s > PAUSE_S:
            self._first_s, self._talks = at_s - FRAME_MS / 1000, False
        self.last_s = at_s
        if self._talks or at_s - self._first_s < SPEECH_S:
            return False
        self._talks, self.began_s = True, self._first_s
        self.turns += 1
        return True


class Turns:
    """Both talkers of a call; times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        self.delays_s: deque[float] = deque(maxlen=MAX_TURNS)
        """From the caller's stop to the model's start, for each turn of the caller's that the
        model answered after its end.
        """
        self.answered_s: deque[float] = deque(maxlen=MAX_TURNS)
        """When the model began to answer, for each of them."""
        self._caller = _Talker()
        self._model = _Talker()
        self._answered = 0

    def caller(self, voiced: bool, at_s: float) -> None:
        """20 ms of the caller, which ended at `at_s`."""
        self._caller.hear(voiced, at_s)

    def model(self, loud: bool, at_s: float) -> None:
        """20 ms of the model, whose end the caller hears at `at_s`."""
        if not self._model.hear(loud, at_s) or self._caller.turns == self._answered:
            return
        self._answered = self._caller.turns
        delay_s = self._model.began_s - self._caller.last_s
        if delay_s >= 0:
            self.delays_s.append(delay_s)
            self.answered_s.append(self._model.began_s)
