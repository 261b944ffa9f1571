"""Where in one recording another comes back: by normalised cross-correlation, second by second."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from personaplex_bridge.audio import mulaw

RATE_HZ = mulaw.SAMPLE_RATE_HZ
WINDOW_S = 1.0
MIN_RMS = 300.0
"""Windows quieter than this (of 32,768) hold no speech to look for."""
FOUND = 0.8
"""Correlation from which a window counts as found."""

Samples = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Match:
    """A window of the original and its best place in the recording."""

    at_s: float
    delay_s: float
    correlation: float

    @property
    def found(self) -> bool:
        """Whether it is the same sound."""
        return self.correlation >= FOUND


def find_speech(original: bytes, recording: bytes, within_s: float | None = None) -> list[Match]:
    """For each second of `original` that holds speech, where it comes back in `recording`.

    Both are mu-law at 8 kHz on the same clock; a sound can't come back before it was made, nor
    later than `within_s`, if that is given.
    """
    source = mulaw.decode(original).astype(np.float64)
    target = mulaw.decode(recording).astype(np.float64)
    size = int(WINDOW_S * RATE_HZ)
    matches = []
    for begin in range(0, len(source) - size + 1, size):
        window = source[begin : begin + size]
        if np.sqrt(np.mean(window**2)) >= MIN_RMS and len(target) - begin >= size:
            end = None if within_s is None else begin + size + int(within_s * RATE_HZ)
            matches.append(_best_place(window, target[begin:end], begin))
    return matches


def _best_place(window: Samples, target: Samples, begin: int) -> Match:
    length = 1 << (len(target) + len(window) - 1).bit_length()
    product = np.fft.rfft(target, length) * np.conj(np.fft.rfft(window, length))
    places = len(target) - len(window) + 1
    energy = np.concatenate(([0.0], np.cumsum(target**2)))
    loudness = np.sqrt(np.maximum(energy[len(window) :] - energy[: -len(window)], 1.0))
    scores = np.fft.irfft(product, length)[:places] / (loudness * np.sqrt(np.sum(window**2)))
    best = int(np.argmax(scores))
    return Match(begin / RATE_HZ, best / RATE_HZ, float(scores[best]))
