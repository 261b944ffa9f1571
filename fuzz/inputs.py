"""How the bytes of one input are read: as frames, or as a stream that arrives in pieces.

Any bytes can be read either way, and a small change of the bytes is a small change of what is
read: that is what a fuzzer needs to learn from one input how to make the next.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

SEPARATOR = b"\x1e\x1e"
"""Between frames. One byte alone (RFC 7464's) would keep that byte out of every frame."""

_MENDED, _CUTS = 0x80, 0x0F
_PAGE_MAGIC, _CHECKSUM_AT, _SEGMENTS_AT, _LACING_AT = b"OggS", 22, 26, 27
_MIRRORED = bytes(int(f"{byte:08b}"[::-1], 2) for byte in range(256))


def join_frames(frames: Iterable[bytes]) -> bytes:
    """The input that is read as these frames."""
    return SEPARATOR.join(frames)


def split_frames(data: bytes) -> list[bytes]:
    """The frames of an input: at least one, perhaps empty."""
    return data.split(SEPARATOR)


@dataclass(frozen=True, slots=True)
class Stream:
    """An Ogg stream, and where it is cut on its way (up to 15 places, in any order).

    In an input, a byte with the number of cuts comes first, then two bytes for each cut. Its
    highest bit says that checksums are to be put right: hardly any change of a page gets past its
    checksum otherwise.
    """

    ogg: bytes
    cuts: tuple[int, ...] = ()
    mended: bool = True

    @classmethod
    def parse(cls, data: bytes) -> Stream:
        """The stream in an input."""
        flags = data[0] if data else 0
        size = 2 * (flags & _CUTS)
        cuts = [cut for (cut,) in struct.iter_unpack(">H", data[1 : 1 + size].ljust(size, b"\0"))]
        return cls(data[1 + size :], tuple(cuts), bool(flags & _MENDED))

    def serialize(self) -> bytes:
        """The input that is read as this stream."""
        flags = len(self.cuts) | (_MENDED if self.mended else 0)
        return struct.pack(f">B{len(self.cuts)}H", flags, *self.cuts) + self.ogg

    def pieces(self) -> list[bytes]:
        """The stream as it arrives; cuts beyond its end give empty pieces."""
        ogg = with_right_checksums(self.ogg) if self.mended else self.ogg
        return [ogg[begin:end] for begin, end in pairwise([0, *sorted(self.cuts), len(ogg)])]


def with_right_checksums(ogg: bytes) -> bytes:
    """The same bytes, but every whole page has the checksum that a reader wants."""
    mended = bytearray(ogg)
    at = ogg.find(_PAGE_MAGIC)
    while at >= 0:
        end = _end_of_page(ogg, at)
        if end <= len(ogg):
            mended[at + _CHECKSUM_AT : at + _SEGMENTS_AT] = bytes(4)
            checksum = ogg_checksum(bytes(mended[at:end]))
            mended[at + _CHECKSUM_AT : at + _SEGMENTS_AT] = checksum
            at = ogg.find(_PAGE_MAGIC, end)
        else:
            at = ogg.find(_PAGE_MAGIC, at + 1)
    return bytes(mended)


def ogg_checksum(page: bytes) -> bytes:
    """Four bytes as they stand in a page (RFC 3533, section 6).

    Ogg's CRC has zlib's polynomial, but takes the highest bit of a byte first, begins with 0 and
    is not inverted at the end: so mirror the bytes, and undo what zlib does at both ends.
    """
    mirrored = zlib.crc32(page.translate(_MIRRORED), 0xFFFFFFFF) ^ 0xFFFFFFFF
    return mirrored.to_bytes(4, "big").translate(_MIRRORED)


def _end_of_page(ogg: bytes, at: int) -> int:
    """Where the page that begins at `at` ends; beyond the end of `ogg` if it isn't whole."""
    if at + _LACING_AT > len(ogg):
        return len(ogg) + 1
    body_at = at + _LACING_AT + ogg[at + _SEGMENTS_AT]
    return body_at + sum(ogg[at + _LACING_AT : body_at])
