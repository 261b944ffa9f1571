"""Sound files of any kind and rate, to and from a phone's media."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile
import soxr

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.errors import AudioError

MAX_SECONDS = 4 * 3600
"""Twilio ends a call after four hours."""

_BLOCK_S = 10
"""So much is held in memory of the file's own rate and channels."""


def read_as_mulaw(
    path: Path | BinaryIO, repeat: int = 1, max_seconds: float = MAX_SECONDS
) -> bytes:
    """`read_media` for the telephone: mu-law at 8 kHz."""
    return read_media(path, TELEPHONE, repeat, max_seconds)


def read_media(
    path: Path | BinaryIO,
    audio_format: AudioFormat,
    repeat: int = 1,
    max_seconds: float = MAX_SECONDS,
) -> bytes:
    """A WAV, FLAC, Ogg, MP3 or other file as media, mono, `repeat` times in a row.

    Raises:
        AudioError: no such file, no sound in it, or longer than `max_seconds` in all.
    """
    try:
        with soundfile.SoundFile(path) as sound:
            seconds = sound.frames * repeat / sound.samplerate
            if not 0 < seconds <= max_seconds:
                allowed = f"above 0 and up to {max_seconds:g} s"
                raise AudioError(f"{path}: {seconds:.0f} s of sound; allowed: {allowed}")
            return audio_format.encode(_read_mono(sound, audio_format.rate_hz)) * repeat
    except (OSError, soundfile.SoundFileError) as error:
        raise AudioError(f"can't read {path} as a sound file: {error}") from None


def _read_mono(sound: soundfile.SoundFile, to_hz: int) -> Pcm:
    """All of an open file at another rate, block by block: at once, ten minutes of music would be
    400 MB.
    """
    rate_hz = sound.samplerate
    stream = soxr.ResampleStream(rate_hz, to_hz, 1, "float64", "VHQ")
    parts = [np.empty(0)]
    last = False
    while not last:
        block = sound.read(_BLOCK_S * rate_hz, dtype="float64", always_2d=True)
        last = len(block) < _BLOCK_S * rate_hz
        parts.append(stream.resample_chunk(block.mean(axis=1), last=last))
    samples = np.concatenate(parts)
    pcm: Pcm = np.clip(np.round(samples * 32768), -32768, 32767).astype(np.int16)
    return pcm


def write_wav(path: Path, *channels: bytes, audio_format: AudioFormat = TELEPHONE) -> None:
    """Channels of media as a 16-bit WAV; the shorter filled up with silence."""
    longest = max(len(channel) for channel in channels)
    filled = [channel + audio_format.silence * (longest - len(channel)) for channel in channels]
    frames = np.stack([audio_format.decode(channel) for channel in filled], axis=1)
    soundfile.write(path, frames, audio_format.rate_hz, subtype="PCM_16")
