"""Mu-law (ITU-T G.711) by table, 8 bits to 16 and back.

The tables follow the reference implementation of ITU-T G.191: the 14-bit codec on 16-bit samples,
negative samples by one's complement, so that positive and negative mirror each other.
"""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 8000
FRAME_MS = 20
FRAME_BYTES = 160
SILENCE = b"\xff"
"""The mu-law byte for zero."""
SILENT_FRAME = SILENCE * FRAME_BYTES
QUIET = 400
"""A frame without a sample beyond this (of 32,768) is a pause."""

Pcm = npt.NDArray[np.int16]

_BIAS = 33
_SEGMENT_BITS = 4


def _build_decode_table() -> Pcm:
    """256 entries: the 16-bit sample each mu-law byte stands for."""
    inverted = ~np.arange(256, dtype=np.int32) & 0xFF
    exponent = (inverted >> _SEGMENT_BITS) & 0x07
    mantissa = inverted & 0x0F
    magnitude = ((2 * mantissa + _BIAS) << exponent) - _BIAS
    return np.where(inverted & 0x80, -magnitude, magnitude).astype(np.int16) * np.int16(4)


def _build_encode_table() -> npt.NDArray[np.uint8]:
    """65,536 entries, indexed by the sample's bits read as an unsigned number."""
    sample = np.arange(65536, dtype=np.uint16).view(np.int16).astype(np.int32)
    negative = sample < 0
    biased = np.minimum((np.where(negative, ~sample, sample) >> 2) + _BIAS, 0x1FFF)
    exponent = np.frexp(biased)[1] - 6
    mantissa = (biased >> (exponent + 1)) & 0x0F
    code = (exponent << _SEGMENT_BITS) | mantissa | np.where(negative, 0x80, 0)
    table: npt.NDArray[np.uint8] = (~code & 0xFF).astype(np.uint8)
    return table


DECODE_TABLE = _build_decode_table()
ENCODE_TABLE = _build_encode_table()

_LOUD_BYTES = bytes(code for code in range(256) if abs(int(DECODE_TABLE[code])) > QUIET)
_LOUD = re.compile(b"[" + re.escape(_LOUD_BYTES) + b"]")
"""Finds the first loud byte: a search in sound ends at once, where numpy would look at it all."""


def decode(mulaw: bytes) -> Pcm:
    """Mu-law bytes to as many samples."""
    return DECODE_TABLE.take(np.frombuffer(mulaw, dtype=np.uint8))


def encode(pcm: Pcm) -> bytes:
    """Samples to as many mu-law bytes."""
    return ENCODE_TABLE.take(pcm.view(np.uint16)).tobytes()


def loudness(mulaw: bytes) -> list[bool]:
    """For each 20 ms frame, whether it has a sample beyond `QUIET`."""
    return [
        _LOUD.search(mulaw, begin, begin + FRAME_BYTES) is not None
        for begin in range(0, len(mulaw), FRAME_BYTES)
    ]
