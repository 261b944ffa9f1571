"""The chime that a caller hears when the model has failed and another is sought."""

from __future__ import annotations

from functools import cache

import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import FRAME_BYTES, SAMPLE_RATE_HZ, SILENT_FRAME

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
def recovery_chime() -> tuple[bytes, bytes]:
    """The chime and the pause after it, mu-law in whole frames of 160 bytes."""
    time_s = np.arange(NOTE_MS * SAMPLE_RATE_HZ // 1000) / SAMPLE_RATE_HZ
    attack = np.minimum(1.0, time_s * 1000 / ATTACK_MS)
    fade = np.minimum(1.0, (time_s[-1] - time_s) * 1000 / ATTACK_MS)
    envelope = PEAK * attack * fade * np.exp(-time_s * 1000 / DECAY_MS)
    notes = [envelope * np.sin(2 * np.pi * note_hz * time_s) for note_hz in NOTES_HZ]
    tone = mulaw.encode(np.rint(np.concatenate(notes)).astype(np.int16))
    assert len(tone) % FRAME_BYTES == 0  # noqa: S101 - 200 ms are ten frames
    return tone, SILENT_FRAME * PAUSE_FRAMES
