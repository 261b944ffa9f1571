"""Which 80 ms frames of a call go to the model as they are, and which as silence."""

from __future__ import annotations

from collections.abc import Sequence

WORD_FRAMES = 4
"""Frames of 20 ms with a voice since the gate opened that make a word; fewer are a blip."""
HANGOVER_FRAMES = 2
"""It stays open for so many frames of 80 ms after the last voice of a word; not after a blip."""


class NoiseGate:
    """One call's gate. What it makes of noise is decided by its `VoiceDetector`'s mode.

    It looks at a frame once it is complete, and never back or ahead, so it delays nothing.
    """

    def __init__(self) -> None:
        self._voiced = 0  # 20 ms frames since it opened
        self._left = 0  # 80 ms frames that it will stay open for

    def opens(self, voiced: Sequence[bool]) -> bool:
        """Whether a frame passes, of which a `VoiceDetector` has said this for each 20 ms."""
        count = sum(voiced)
        if count:
            self._voiced += count
            self._left = HANGOVER_FRAMES if self._voiced >= WORD_FRAMES else 0
            return True
        if self._left:
            self._left -= 1
            return True
        self._voiced = 0
        return False
