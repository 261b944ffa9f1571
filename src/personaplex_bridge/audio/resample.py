"""A change of sample rate by soxr, as a stream. Not on the live path: see `uplink`."""

from __future__ import annotations

import numpy as np
import soxr

from personaplex_bridge.audio.mulaw import Pcm


class Resampler:
    """Samples at one rate in, at the other out; the filter (HQ) holds about 43 ms back.

    soxr computes in float32: fed int16 it would dither, and silence would not stay silence.
    """

    def __init__(self, from_hz: int, to_hz: int) -> None:
        self._stream = soxr.ResampleStream(from_hz, to_hz, 1, "float32", "HQ")

    def feed(self, pcm: Pcm, *, last: bool = False) -> Pcm:
        """What comes out now that `pcm` went in; `last` pushes out what the filter holds."""
        changed = self._stream.resample_chunk(pcm.astype(np.float32), last=last)
        samples: Pcm = np.clip(np.rint(changed), -32768, 32767).astype(np.int16)
        return samples
