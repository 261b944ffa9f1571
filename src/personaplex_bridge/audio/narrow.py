"""The telephone's band of wideband sound, for what was made to listen to telephones.

Only the voice detector hears this. The filter is short: flat to 3.2 kHz, -50 dB from 4.8 kHz on.
What lies between folds back into 3.2 to 4 kHz, which changes neither a level nor the shape of
speech by anything that matters; a longer filter would only cost more.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from personaplex_bridge.audio import l16
from personaplex_bridge.audio.mulaw import SAMPLE_RATE_HZ, Pcm

WIDE_RATE_HZ = 24_000
STEP = WIDE_RATE_HZ // SAMPLE_RATE_HZ
TAPS = 48
"""1 ms of delay, for the detector alone."""
_CUTOFF_HZ = 4_000
_KAISER_BETA = 4.6
"""What 50 dB take."""


def _low_pass() -> npt.NDArray[np.float32]:
    """A windowed sinc whose taps sum up to 1."""
    away = np.arange(TAPS) - (TAPS - 1) / 2
    taps = np.sinc(2 * _CUTOFF_HZ / WIDE_RATE_HZ * away) * np.kaiser(TAPS, _KAISER_BETA)
    return np.asarray(taps / taps.sum(), np.float32)


_TAPS = _low_pass()


class NarrowView:
    """One call's audio/L16 at 24 kHz, as samples at 8 kHz."""

    def __init__(self) -> None:
        self._before = np.zeros(TAPS - 1, np.float32)

    def feed(self, wide: bytes) -> Pcm:
        """A third as many samples; whole frames of 20 ms in, whole frames out."""
        samples = np.concatenate((self._before, l16.decode(wide).astype(np.float32)))
        self._before = samples[1 - TAPS :]
        windows = np.lib.stride_tricks.sliding_window_view(samples, TAPS)[::STEP]
        narrow: Pcm = np.clip(np.rint(windows @ _TAPS), -32768, 32767).astype(np.int16)
        return narrow
