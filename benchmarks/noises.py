"""Noise of the kinds telephone calls are made in, at 8 kHz, each with a root mean square of 1."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import soxr

Sound = npt.NDArray[np.float64]

RATE_HZ = 8000
TALKERS = 8
"""Voices in the babble; from six on no single one can be followed."""


def white(samples: int, random: np.random.Generator, _speech: Sequence[Sound]) -> Sound:
    """All frequencies alike."""
    return _shaped(samples, random, lambda hz: np.ones_like(hz))


def pink(samples: int, random: np.random.Generator, _speech: Sequence[Sound]) -> Sound:
    """Power falls by 3 dB an octave, from 50 Hz on."""
    return _shaped(samples, random, lambda hz: np.maximum(hz, 50) ** -0.5)


def babble(samples: int, random: np.random.Generator, speech: Sequence[Sound]) -> Sound:
    """Eight talkers at once: the given speech (without pauses) at other speeds and places."""
    mixed = np.zeros(samples)
    for talker in range(TALKERS):
        order = random.permutation(len(speech))
        # Other speeds are other voices: the pitch moves along with the formants.
        speed = random.uniform(0.82, 1.25)
        voice = soxr.resample(np.concatenate([speech[i] for i in order]), speed, 1.0)
        voice = np.roll(np.tile(voice, samples // len(voice) + 1), random.integers(len(voice)))
        mixed += voice[:samples] / _rms(voice) * (1.0 if talker % 2 else 0.8)
    return mixed / _rms(mixed)


def traffic(samples: int, random: np.random.Generator, _speech: Sequence[Sound]) -> Sound:
    """A rumble that swells and ebbs by some 3 dB, and every 10 s or so a vehicle that passes by:
    up to 8 dB louder and brighter, for some seconds.
    """
    time_s = np.arange(samples) / RATE_HZ
    rumble = _shaped(samples, random, lambda hz: 1 / (1 + (hz / 150) ** 1.5))
    swell_db = 3 * np.sin(2 * np.pi * (0.11 * time_s + random.uniform()))
    near = np.zeros(samples)
    passing_s = random.uniform(4, 10)
    while passing_s < time_s[-1]:
        near += np.exp(-0.5 * ((time_s - passing_s) / random.uniform(0.7, 1.5)) ** 2)
        passing_s += random.uniform(7, 14)
    tyres = _shaped(samples, random, lambda hz: 1 / (1 + (hz / 600) ** 2))
    mixed = rumble * 10 ** (swell_db / 20) + 2.3 * near * tyres
    return mixed / _rms(mixed)


NOISES: dict[str, Callable[[int, np.random.Generator, Sequence[Sound]], Sound]] = {
    "white": white,
    "pink": pink,
    "babble": babble,
    "traffic": traffic,
}


def _shaped(samples: int, random: np.random.Generator, gain: Callable[[Sound], Sound]) -> Sound:
    """Gaussian noise with this gain at each frequency in Hz, nothing below 30 Hz."""
    spectrum = np.fft.rfft(random.standard_normal(samples))
    hz: Sound = np.fft.rfftfreq(samples, 1 / RATE_HZ).astype(np.float64)
    shaped: Sound = np.fft.irfft(spectrum * gain(hz) * (hz >= 30), samples)
    return shaped / _rms(shaped)


def _rms(sound: Sound) -> float:
    return float(np.sqrt(np.mean(sound**2)))
