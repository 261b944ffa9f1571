"""Ogg pages read and made by hand from RFC 3533, section 6, independently of libogg."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

CONTINUED, FIRST, LAST = 1, 2, 4
NO_PACKET_ENDS = -1
"""The granule position of a page on which no packet ends."""

_HEADER = struct.Struct("<4sBBqIIIB")
_CHECKSUM_AT = 22


@dataclass(frozen=True)
class Page:
    """One page; `lacing` is the segment table."""

    lacing: bytes
    body: bytes
    flags: int = 0
    granule: int = 0
    serial: int = 1
    sequence: int = 0
    version: int = 0

    def to_bytes(self) -> bytes:
        header = _HEADER.pack(
            *(b"OggS", self.version, self.flags, self.granule, self.serial, self.sequence, 0),
            len(self.lacing),
        )
        data = header + self.lacing + self.body
        checksum = struct.pack("<I", crc32(data))
        return data[:_CHECKSUM_AT] + checksum + data[_CHECKSUM_AT + 4 :]

    @property
    def packets(self) -> list[bytes]:
        """The pieces of packets on this page; the last may go on on the next."""
        pieces, begin, end = [], 0, 0
        for value in self.lacing:
            end += value
            if value < 255:
                pieces.append(self.body[begin:end])
                begin = end
        return [*pieces, self.body[begin:]] if self.unfinished else pieces

    @property
    def unfinished(self) -> bool:
        return self.lacing[-1:] == b"\xff"


def page_of(
    *packets: bytes,
    flags: int = 0,
    granule: int = 0,
    serial: int = 1,
    sequence: int = 0,
    version: int = 0,
) -> Page:
    """A page with these whole packets."""
    lacing = b"".join(b"\xff" * (len(data) // 255) + bytes([len(data) % 255]) for data in packets)
    return Page(lacing, b"".join(packets), flags, granule, serial, sequence, version)


def read_pages(data: bytes) -> list[Page]:
    """All pages of a flawless stream; anything else fails the test."""
    pages = []
    while data:
        magic, version, flags, granule, serial, sequence, checksum, count = _HEADER.unpack_from(
            data
        )
        lacing = data[_HEADER.size : _HEADER.size + count]
        end = _HEADER.size + count + sum(lacing)
        assert magic == b"OggS"
        assert version == 0
        assert len(lacing) == count
        assert len(data) >= end
        assert checksum == crc32(data[:_CHECKSUM_AT] + bytes(4) + data[_CHECKSUM_AT + 4 : end])
        body = data[_HEADER.size + count : end]
        pages.append(Page(lacing, body, flags, granule, serial, sequence))
        data = data[end:]
    return pages


def packets_of(pages: Sequence[Page]) -> list[bytes]:
    """Packets put together again over page borders."""
    packets: list[bytes] = []
    unfinished = b""
    for page in pages:
        assert bool(page.flags & CONTINUED) is bool(unfinished)
        pieces = page.packets
        if pieces:
            pieces[0] = unfinished + pieces[0]
            unfinished = pieces.pop() if page.unfinished else b""
        packets += pieces
    assert not unfinished
    return packets


def crc32(data: bytes) -> int:
    """Polynomial 0x04C11DB7, most significant bit first, initial value and final XOR zero."""
    checksum = 0
    for byte in data:
        checksum = (checksum << 8 & 0xFFFFFFFF) ^ _crc_of(checksum >> 24 ^ byte)
    return checksum


@cache
def _crc_of(byte: int) -> int:
    register = byte << 24
    for _ in range(8):
        register = register << 1 ^ (0x104C11DB7 if register & 0x80000000 else 0)
    return register
