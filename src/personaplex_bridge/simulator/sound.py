"""Sound files of any kind and rate, to and from a phone's mu-law. Needs the `demo` extra."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soxr

from personaplex_bridge.audio import mulaw
from personaplex_bridge.errors import AudioError

try:
    import soundfile
except ImportError as error:  # pragma: no cover - the message is the point
    raise ImportError(
        "reading sound files needs the 'demo' extra: pip install 'personaplex-bridge[demo]'"
    ) from error

MAX_SECONDS = 4 * 3600
"""Twilio ends a call after four hours."""


def read_as_mulaw(path: Path, repeat: int = 1) -> bytes:
    """A WAV, FLAC, Ogg or other file as mu-law at 8 kHz, mono, `repeat` times in a row.

    Raises:
        AudioError: no such file, no sound in it, or longer than a phone call can be.
    """
    try:
        samples, rate_hz = soundfile.read(path, dtype="float64", always_2d=True)
    except (OSError, soundfile.LibsndfileError) as error:
        raise AudioError(f"can't read {path} as a sound file: {error}") from None
    seconds = len(samples) * repeat / rate_hz
    if not 0 < seconds <= MAX_SECONDS:
        raise AudioError(f"{path}: {seconds:.0f} s of sound; a call needs 0 to {MAX_SECONDS} s")
    mono = samples.mean(axis=1)
    phone = soxr.resample(mono, rate_hz, mulaw.SAMPLE_RATE_HZ, quality="VHQ")
    pcm = np.clip(np.round(phone * 32768), -32768, 32767).astype(np.int16)
    return mulaw.encode(pcm) * repeat


def write_wav(path: Path, *channels: bytes) -> None:
    """Mu-law channels, each at 8 kHz, as a 16-bit WAV; the shorter filled up with silence."""
    longest = max(len(channel) for channel in channels)
    filled = [channel + mulaw.SILENCE * (longest - len(channel)) for channel in channels]
    frames = np.stack([mulaw.decode(channel) for channel in filled], axis=1)
    soundfile.write(path, frames, mulaw.SAMPLE_RATE_HZ, subtype="PCM_16")
