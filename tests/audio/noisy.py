"""Speech and noise for the voice detector's tests, at 8 kHz and through mu-law."""

from importlib import resources

import numpy as np
import numpy.typing as npt
import soundfile
import soxr

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import Pcm

Sound = npt.NDArray[np.float64]
RATE_HZ = 8000
PIECE = 160
FRAME_PIECES = 4

WORDS_S = ((1.36, 1.74), (8.2, 11.4), (18.9, 20.5))
"""Where the shipped recording speaks for sure, seen in its levels; nobody does from 4 to 8 s."""
FIRST_WORD_S = 8.14
"""Where the second stretch begins, from silence to a vowel within 40 ms."""


def shipped_speech(level_dbfs: float = -26.0) -> Sound:
    """The shipped caller, with this root mean square in its second utterance."""
    path = str(resources.files("personaplex_bridge").joinpath("data/caller.flac"))
    mono, rate_hz = soundfile.read(path, dtype="float64")
    speech: Sound = soxr.resample(mono, rate_hz, RATE_HZ)
    begin, end = (round(at * RATE_HZ) for at in WORDS_S[1])
    return scaled(speech, level_dbfs, float(np.mean(speech[begin:end] ** 2)))


def scaled(sound: Sound, level_dbfs: float, power: float) -> Sound:
    """So that what has this power now gets this level."""
    factor: float = 10.0 ** (level_dbfs / 20) / power**0.5
    return sound * factor


def white(seconds: float, level_dbfs: float, seed: int = 0) -> Sound:
    random = np.random.default_rng(seed)
    return scaled(random.standard_normal(round(seconds * RATE_HZ)), level_dbfs, power=1.0)


def silence(seconds: float) -> Sound:
    return np.zeros(round(seconds * RATE_HZ))


def tones(seconds: float, level_dbfs: float, *hz: float) -> Sound:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    mixed: Sound = sum((np.sin(2 * np.pi * each * time_s) for each in hz), np.zeros(len(time_s)))
    return scaled(mixed, level_dbfs, float(np.mean(mixed**2)))


def heard(*sounds: Sound) -> list[Pcm]:
    """One after the other, as a call brings them: 20 ms each, through mu-law."""
    sound = np.concatenate(sounds)
    pcm = np.clip(np.round(sound * 32768), -32768, 32767).astype(np.int16)
    phone = mulaw.decode(mulaw.encode(pcm))
    return list(phone[: len(phone) // PIECE * PIECE].reshape(-1, PIECE))


def pieces(begin_s: float, end_s: float) -> slice:
    """The 20 ms pieces of a stretch."""
    return slice(round(begin_s * 50), round(end_s * 50))
