"""Test signals, and how to recognise them after they have been through a codec."""

import numpy as np
import numpy.typing as npt

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import Pcm


def speech_like(seconds: float, rate_hz: int) -> Pcm:
    """Harmonics of a gliding pitch, 300 to 3,100 Hz as on the phone, three syllables a second."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = 140 + 40 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    voice = sum(np.sin(number * phase + number**2) / number for number in range(3, 18))
    syllables = np.sin(np.pi * 3 * time_s) ** 2
    return np.asarray(6000 * voice * syllables, np.int16)


def wide_speech(seconds: float, rate_hz: int = 24_000) -> Pcm:
    """As `speech_like`, but with harmonics up to 9 kHz, louder at the top than a voice's."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    pitch_hz = 140 + 10 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch_hz) / rate_hz
    voice = sum(np.sin(number * phase + number**2) / number**0.5 for number in range(3, 60))
    syllables = np.sin(np.pi * 3 * time_s) ** 2
    return np.asarray(2000 * voice * syllables, np.int16)


def band_db(pcm: npt.NDArray[np.generic], rate_hz: int, low_hz: float, high_hz: float) -> float:
    """The power between two frequencies, in dB of all but the constant part."""
    power = np.abs(np.fft.rfft(pcm.astype(np.float64))) ** 2
    hz = np.fft.rfftfreq(len(pcm), 1 / rate_hz)
    inside = float(power[(hz >= low_hz) & (hz < high_hz)].sum())
    return float(10 * np.log10(inside / power[1:].sum() + 1e-12))


def find(
    signal: npt.NDArray[np.generic], heard: npt.NDArray[np.generic], most: int
) -> tuple[int, float]:
    """By how many samples (at most `most`) `heard` lags behind `signal`, and how well it
    correlates there, 1.0 being the same but for loudness.
    """
    size = min(len(signal), len(heard) - most)
    here = signal[:size].astype(np.float64)
    there = heard.astype(np.float64)
    score, delay = max(
        (_correlation(here, there[delay : delay + size]), delay) for delay in range(most + 1)
    )
    return delay, score


def pitch_hz(sound: bytes) -> float:
    """The strongest frequency in mu-law at 8 kHz."""
    spectrum = np.abs(np.fft.rfft(mulaw.decode(sound).astype(np.float64)))
    spectrum[0] = 0
    return float(np.argmax(spectrum)) * mulaw.SAMPLE_RATE_HZ / len(sound)


def _correlation(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    return float(one @ other / (np.linalg.norm(one) * np.linalg.norm(other) + 1e-9))
