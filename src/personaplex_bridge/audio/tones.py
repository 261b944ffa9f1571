"""The chime that a caller hears when the model has failed and another is sought."""

from __future__ import annotations

from functools import cache

import numpy as np

from personaplex_bridge.audio.format import TELEPHONE, AudioFormat

NOTES_HZ = (659.26, 523.25)
"""E5, C5: a falling third, as a door bell."""
NOTE_MS = 200
DECAY_MS = 90
ATTACK_MS = 5
PEAK = 6000
"""Of 32,768: about -18 dBm0, no louder than speech."""
PAUSE_FRAMES = 80
"""1.6 s between two chimes."""


@cache
def recovery_chime(audio_format: AudioFormat = TELEPHONE) -> tuple[bytes, bytes]:
    """The chime and the pause after it, media in whole frames."""
    rate_hz = audio_format.rate_hz
    time_s = np.arange(NOTE_MS * rate_hz // 1000) / rate_hz
    attack = np.minimum(1.0, time_s * 1000 / ATTACK_MS)
    fade = np.minimum(1.0, (time_s[-1] - time_s) * 1000 / ATTACK_MS)
    envelope = PEAK * attack * fade * np.exp(-time_s * 1000 / DECAY_MS)
    notes = [envelope * np.sin(2 * np.pi * note_hz * time_s) for note_hz in NOTES_HZ]
    tone = audio_format.encode(np.rint(np.concatenate(notes)).astype(np.int16))
    assert len(tone) % audio_format.frame_bytes == 0  # noqa: S101 - 200 ms are ten frames
    return tone, audio_format.silent_frame * PAUSE_FRAMES
