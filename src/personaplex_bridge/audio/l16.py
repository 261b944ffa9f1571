"""Linear samples of 16 bits as they travel: audio/L16, in network byte order (RFC 2586, and RFC
3551, section 4.5.11).
"""

from __future__ import annotations

import numpy as np

from personaplex_bridge.audio.mulaw import FRAME_MS, QUIET, Pcm

SAMPLE_BYTES = 2
SILENCE = b"\x00"
"""Either byte of a zero."""

_NETWORK_ORDER = np.dtype(">i2")


def decode(l16: bytes) -> Pcm:
    """Pairs of bytes, the more significant one first, to half as many samples."""
    return np.frombuffer(l16, _NETWORK_ORDER).astype(np.int16)


def encode(pcm: Pcm) -> bytes:
    """Samples to twice as many bytes."""
    return pcm.astype(_NETWORK_ORDER).tobytes()


def loudness(l16: bytes, rate_hz: int) -> list[bool]:
    """For each whole 20 ms frame, whether it has a sample beyond `QUIET`."""
    frames = np.frombuffer(l16, _NETWORK_ORDER).reshape(-1, rate_hz * FRAME_MS // 1000)
    peaks: list[int] = np.abs(frames.astype(np.int32)).max(axis=1).tolist()
    return [peak > QUIET for peak in peaks]
