"""Whether 20 ms of a call hold a voice, told as soon as they are there.

Two witnesses. The level: a voice stands out of the noise between the words, whose level and
restlessness `NoiseFloor` follows. And the voice activity detector of WebRTC in its most credulous
mode, which knows the shape of speech in six bands: what it won't call speech must stand out very
far. Neither alone will do (benchmarks/results/gate.json): WebRTC's takes any loud noise for
speech, the level alone more of the traffic.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import webrtcvad

from personaplex_bridge.audio.floor import NoiseFloor
from personaplex_bridge.audio.mulaw import FRAME_BYTES, SAMPLE_RATE_HZ, Pcm

FRAME_SAMPLES = FRAME_BYTES

Mode = Literal["auto", "strict"]

REACH_DB: dict[Mode, float] = {"auto": 10.0, "strict": 9.0}
"""See `NoiseFloor`. Found by trial, as all its constants, on the noisy calls of
benchmarks/scenes.py and on others, with other noise and other voices."""

_MOST_CREDULOUS = 0
_FULL_SCALE_DB = 20 * math.log10(32768)
_LEAST_POWER = 50.0
"""Added to the power, in steps squared: -73 dBFS, about what mu-law's own rounding makes. Below
it nothing is worth telling apart, and digital silence gets a logarithm."""


class VoiceDetector:
    """One call's detector.

    `auto` would rather let noise through than lose speech: where the caller stands out of it by
    little, it leaves more and more open. `strict` is for places full of voices or traffic: at an
    SNR of 10 dB 91 % of such noise is silenced instead of 87 %, and 0.9 % of the speech lost
    instead of 0.7 %; at 5 dB in traffic, 5 % instead of 0.8 % (benchmarks/results/gate.json).

    It learns the place's noise, so it must hear every frame, in order.

    Until it has heard the noise between words, a second or so, it takes everything for a voice
    that is louder than a quiet room.
    """

    def __init__(self, mode: Mode = "auto") -> None:
        self._floor = NoiseFloor(REACH_DB[mode])
        self._webrtc = webrtcvad.Vad(_MOST_CREDULOUS)

    def feed(self, pcm: Pcm) -> bool:
        """Whether these 20 ms (160 samples at 8 kHz) hold a voice.

        Raises:
            ValueError: another number of samples.
        """
        if len(pcm) != FRAME_SAMPLES:
            raise ValueError(f"a frame has {FRAME_SAMPLES} samples, not {len(pcm)}")
        return self.listen(pcm)[0]

    def listen(self, pcm: Pcm) -> list[bool]:
        """For each of several frames, whether it holds a voice. Cheaper than one by one."""
        raw, size = pcm.tobytes(), 2 * FRAME_SAMPLES
        return [
            self._floor.feed(
                level_db, speech_like=self._webrtc.is_speech(raw[at : at + size], SAMPLE_RATE_HZ)
            )
            for at, level_db in zip(range(0, len(raw), size), levels_db(pcm), strict=True)
        ]


def levels_db(pcm: Pcm) -> list[float]:
    """Of each 160 samples, the root mean square in dB below full scale; -73 for silence."""
    samples = pcm.astype(np.float32).reshape(-1, FRAME_SAMPLES)
    powers: list[float] = np.einsum("ij,ij->i", samples, samples).tolist()
    return [
        10 * math.log10(power / FRAME_SAMPLES + _LEAST_POWER) - _FULL_SCALE_DB for power in powers
    ]
