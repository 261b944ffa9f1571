"""How long the Opus audio in a message lasts: pages are read, nothing is decoded.

Ogg is RFC 3533, its Opus mapping RFC 7845, an Opus packet's duration RFC 6716, section 3.1.
"""

from __future__ import annotations

from collections.abc import Iterator

SAMPLES_PER_SECOND = 48_000
"""Opus counts its durations at this rate, whatever was sampled."""

_HEADER_BYTES = 27
_MAX_LACING = 255
_CONTINUED = 1
_BOOKKEEPING = (b"OpusHead", b"OpusTags")

# Samples of one frame, by the upper five bits of a packet's first byte, four at a time.
_SILK = (480, 960, 1920, 2880)
_HYBRID = (480, 960, 480, 960)
_CELT = (120, 240, 480, 960)
_FRAME_SAMPLES = _SILK * 3 + _HYBRID + _CELT * 4


def samples_in(message: bytes) -> int:
    """Samples at 48 kHz of all packets that begin in the pages of `message`.

    Raises:
        ValueError: these aren't whole pages.
    """
    return sum(_packet_samples(packet) for packet in _packets(message))


def _packets(message: bytes) -> Iterator[bytes]:
    """The first bytes of each packet that begins in a page; enough to know how long it lasts."""
    begin = 0
    while begin < len(message):
        lacing_begin = begin + _HEADER_BYTES
        if message[begin : begin + 4] != b"OggS" or len(message) < lacing_begin:
            raise ValueError("no Ogg page begins here")
        body = lacing_begin + message[lacing_begin - 1]
        lacing = message[lacing_begin:body]
        is_new = not message[begin + 5] & _CONTINUED
        begin = body
        for size in lacing:
            if is_new and size:
                yield message[begin : begin + min(size, 8)]
            is_new = size < _MAX_LACING
            begin += size
        if begin > len(message):
            raise ValueError("the page goes on in another message")


def _packet_samples(packet: bytes) -> int:
    if packet in _BOOKKEEPING:
        return 0
    match packet[0] & 3:
        case 0:
            frames = 1
        case 3:
            frames = packet[1] & 0x3F if len(packet) > 1 else 0
        case _:
            frames = 2
    return frames * _FRAME_SAMPLES[packet[0] >> 3]
