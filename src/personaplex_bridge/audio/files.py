"""Sound files of any kind and rate, to and from a phone's mu-law."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.errors import AudioError

MAX_SECONDS = 4 * 3600
"""Twilio ends a call after four hours."""

_BLOCK_S = 10
"""So much is held in memory of the file's own rate and channels."""


def read_as_mulaw(
    path: Path | BinaryIO, repeat: int = 1, max_seconds: float = MAX_SECONDS
) -> bytes:
    """A WAV, FLAC, Ogg, MP3 or other file as mu-law at 8 kHz, mono, `repeat` times in a row.

    Raises:
        AudioError: no such file, no sound in it, or longer than `max_seconds` in all.
    """
    try:
        with soundfile.SoundFile(path) as sound:
            seconds = sound.frames * repeat / sound.samplerate
            if not 0 < seconds <= max_seconds:
                allowed = f"above 0 and up to {max_seconds:g} s"
                raise AudioError(f"{path}: {seconds:.0f} s of sound; allowed: {allowed}")
            return mulaw.encode(_read_mono(sound)) * repeat
    except (OSError, soundfile.SoundFileError) as error:
        raise AudioError(f"can't read {path} as a sound file: {error}") from None


def _read_mono(sound: soundfile.SoundFile) -> Pcm:
    """All of an open file at 8 kHz, block by block: ten minutes of music are 400 MB at once."""
    rate_hz = sound.samplerate
    stream = soxr.ResampleStream(rate_hz, mulaw.SAMPLE_RATE_HZ, 1, "float64", "VHQ")
    parts = [np.empty(0)]
    last = False
    while not last:
        block = sound.read(_BLOCK_S * rate_hz, dtype="float64", always_2d=True)
        last = len(block) < _BLOCK_S * rate_hz
        parts.append(stream.resample_chunk(block.mean(axis=1), last=last))
    samples = np.concatenate(parts)
    pcm: Pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    return pcm


def write_wav(path: Path, *channels: bytes) -> None:
    """Mu-law channels, each at 8 kHz, as a 16-bit WAV; the shorter filled up with silence."""
    longest = max(len(channel) for channel in channels)
    filled = [channel + mulaw.SILENCE * (longest - len(channel)) for channel in channels]
    frames = np.stack([mulaw.decode(channel) for channel in filled], axis=1)
    soundfile.write(path, frames, mulaw.SAMPLE_RATE_HZ, subtype="PCM_16")
