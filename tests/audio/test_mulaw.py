"""Mu-law against the tables of ITU-T G.711, which this file builds by itself."""

from itertools import pairwise

import numpy as np
import pytest

from personaplex_bridge.audio.mulaw import FRAME_BYTES, SILENCE, decode, encode

# G.711, tables 2a and 2b: the ends of the eight segments, in 14-bit units. A segment has sixteen
# equal steps; the first begins with half a one.
SEGMENT_ENDS = (31, 95, 223, 479, 991, 2015, 4063, 8159)


def decision_values() -> list[int]:
    """x1 to x128: where one of the 128 intervals of a sign ends and the next begins."""
    steps = (2, 4, 8, 16, 32, 64, 128, 256)
    values = [end - step * left for end, step in zip(SEGMENT_ENDS, steps, strict=True)
              for left in reversed(range(16))]  # fmt: skip
    assert values[:3] == [1, 3, 5]
    assert values[-2:] == [7903, 8159]
    return values


DECISIONS = decision_values()
RECONSTRUCTIONS = [0] + [(low + high) // 2 for low, high in pairwise(DECISIONS)]
"""y0 to y127: the middles of the intervals, in 14-bit units."""


def test_the_table_has_the_recommendations_corners() -> None:
    assert len(DECISIONS) == len(RECONSTRUCTIONS) == 128
    assert RECONSTRUCTIONS[:3] == [0, 2, 4]
    assert RECONSTRUCTIONS[16] == 33
    assert RECONSTRUCTIONS[-1] == 8031


def test_all_256_bytes_decode_as_in_the_recommendation() -> None:
    # A byte is sign, segment and step, all inverted; the sign bit is 1 for positive samples.
    positive = [4 * RECONSTRUCTIONS[0x7F - (byte & 0x7F)] for byte in range(256)]
    expected = [value if byte & 0x80 else -value for byte, value in enumerate(positive)]
    assert decode(bytes(range(256))).tolist() == expected


def test_all_65536_samples_encode_as_in_the_reference_implementation() -> None:
    """ITU-T G.191 drops the two lowest bits and mirrors negative samples by one's complement.
    A decision value itself belongs to the interval above it.
    """
    samples = np.arange(-32768, 32768)
    magnitudes = np.where(samples < 0, ~samples, samples) >> 2
    intervals = np.searchsorted(np.array(DECISIONS[:-1]), magnitudes, side="right")
    expected = np.where(samples < 0, 0x7F, 0xFF) - intervals
    assert encode(samples.astype(np.int16)) == expected.astype(np.uint8).tobytes()


@pytest.mark.parametrize(
    ("sample", "byte"),
    [
        (0, 0xFF), (3, 0xFF), (4, 0xFE), (-1, 0x7F), (-4, 0x7F), (-5, 0x7E), (123, 0xF0),
        (124, 0xEF), (1000, 0xCE), (-1000, 0x4E), (32767, 0x80), (-32768, 0x00),
    ],
)  # fmt: skip
def test_some_samples_in_plain_numbers(sample: int, byte: int) -> None:
    assert encode(np.array([sample], np.int16)) == bytes([byte])


def test_some_bytes_in_plain_numbers() -> None:
    assert decode(b"\x00\x7f\x80\xff\xce\x4e").tolist() == [-32124, 0, 32124, 0, 988, -988]


def test_encoding_what_was_decoded_gives_the_byte_back() -> None:
    """Except for the negative zero, which comes back as the positive one."""
    everything = bytes(range(256))
    assert encode(decode(everything)) == everything.replace(b"\x7f", b"\xff")


def test_decoding_again_changes_nothing() -> None:
    once = decode(encode(np.arange(-32768, 32768).astype(np.int16)))
    assert np.array_equal(decode(encode(once)), once)


def test_silence_and_a_frame() -> None:
    assert decode(SILENCE * FRAME_BYTES).tolist() == [0] * 160
    assert encode(np.zeros(160, np.int16)) == SILENCE * FRAME_BYTES


def test_nothing() -> None:
    assert decode(b"").tolist() == []
    assert encode(np.empty(0, np.int16)) == b""


def test_every_second_sample_of_an_array() -> None:
    samples = np.arange(0, 8000, 100).astype(np.int16)
    assert encode(samples[::2]) == encode(samples)[::2]
