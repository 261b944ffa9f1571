"""The chime between two models."""

from __future__ import annotations

import numpy as np

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import FRAME_BYTES, SILENCE
from personaplex_bridge.audio.tones import PEAK, recovery_chime


def test_the_chime_is_whole_frames_without_a_click_and_no_louder_than_speech() -> None:
    tone, pause = recovery_chime()
    assert len(tone) % FRAME_BYTES == len(pause) % FRAME_BYTES == 0
    assert set(pause) == set(SILENCE)
    pcm = mulaw.decode(tone).astype(np.int64)
    assert abs(pcm[0]) < 100
    assert abs(pcm[-1]) < 100
    assert PEAK / 2 < np.abs(pcm).max() <= PEAK
    # A sine of 660 Hz at this level changes by no more from sample to sample: a click would.
    assert np.abs(np.diff(pcm)).max() < PEAK * 2 * np.pi * 660 / 8000 * 1.1
