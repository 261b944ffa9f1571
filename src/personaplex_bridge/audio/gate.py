"""Which 80 ms frames of a call go to the model as they are, and which as silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from personaplex_bridge.audio.voice import Mode


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a gate stays open, in frames of 80 ms: for `after_word` frames after the last
    with a voice, and for `after_blip` if fewer than `word_frames` frames of 20 ms had one since
    it opened.
    """

    word_frames: int
    after_blip: int
    after_word: int


PATIENCE: dict[Mode, Patience] = {
    "auto": Patience(word_frames=4, after_blip=0, after_word=2),
    "strict": Patience(word_frames=4, after_blip=0, after_word=2),
}


class NoiseGate:
    """One call's gate, to be used with a `VoiceDetector` of the same mode.

    `auto` would rather let noise through than lose speech: where the caller stands out of it by
    little, it leaves more and more open. `strict` is for places full of voices or traffic: at an
    SNR of 10 dB it silences 91 % of such noise instead of 87 %, and loses 0.9 % of the speech
    instead of 0.7 %; at 5 dB in traffic, 5 % instead of 0.8 % (benchmarks/results/gate.json).
    What they differ in is the detector's; the patience of both is the same.

    It looks at a frame once it is complete, and never back or ahead, so it delays nothing.
    """

    def __init__(self, mode: Mode) -> None:
        self._patience = PATIENCE[mode]
        self._voiced = 0  # 20 ms frames since it opened
        self._left = 0  # 80 ms frames that it will stay open for

    def opens(self, voiced: Sequence[bool]) -> bool:
        """Whether a frame passes, of which a `VoiceDetector` has said this for each 20 ms."""
        patience, count = self._patience, sum(voiced)
        if count:
            self._voiced += count
            is_word = self._voiced >= patience.word_frames
            self._left = patience.after_word if is_word else patience.after_blip
            return True
        if self._left:
            self._left -= 1
            return True
        self._voiced = 0
        return False
