"""Ogg pages (RFC 3533) by libogg, through PyOgg's ctypes declarations.

`OggWriter` and `OggReader` know packets and pages and nothing of Opus.
"""

from __future__ import annotations

import ctypes
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from ctypes import string_at
from dataclasses import dataclass
from typing import Any

from personaplex_bridge.audio.native import missing
from personaplex_bridge.errors import OggError

try:
    from pyogg import ogg as _ogg
except NameError as error:  # how PyOgg fails without libogg
    raise missing("libogg", "libogg0", "libogg") from error
if not _ogg.PYOGG_OGG_AVAIL:
    raise missing("libogg", "libogg0", "libogg")

MAX_PACKET_BYTES = 256 * 1024
"""Longest packet read; an Opus packet has at most 7,650 bytes."""

_library = _ogg.libogg

# PyOgg declares the buffer to write into as text to read from, which gives a copy.
_sync_buffer = _library["ogg_sync_buffer"]
_sync_buffer.argtypes = (_ogg.oy_p, ctypes.c_long)
_sync_buffer.restype = ctypes.c_void_p


class _PacketIn(ctypes.Structure):
    """libogg's `ogg_packet`, with a pointer that takes Python's bytes as they are."""

    _fields_ = (
        ("packet", ctypes.c_char_p),
        ("bytes", ctypes.c_long),
        ("b_o_s", ctypes.c_long),
        ("e_o_s", ctypes.c_long),
        ("granulepos", ctypes.c_int64),
        ("packetno", ctypes.c_int64),
    )


_packetin = _library["ogg_stream_packetin"]
_packetin.argtypes = (_ogg.os_p, ctypes.POINTER(_PacketIn))
_packetin.restype = ctypes.c_int

_VERSION = 0
_CONTINUED, _FIRST = 0x01, 0x02
_GOES_ON = 255


@dataclass(frozen=True, slots=True)
class Packet:
    """One packet; `first` when it begins a logical stream. `lost` pages of the same stream are
    missing before it.
    """

    data: bytes
    first: bool
    lost: int = 0


class OggWriter:
    """Packets in, whole pages out, as one logical stream."""

    def __init__(self, serial: int) -> None:
        self._stream = _ogg.ogg_stream_state()
        weakref.finalize(self, _library.ogg_stream_clear, self._stream)
        _begin(self._stream, serial)
        self._packet = _PacketIn()
        self._page = _ogg.ogg_page()
        self._begun = False

    def page(
        self,
        packets: Sequence[bytes],
        granule_position: int,
        *,
        step: int = 0,
        last: bool = False,
    ) -> bytes:
        """The page that carries exactly these packets; or pages, since libogg ends one that has
        more than 4 KB.

        `granule_position` is the position after the last of them, and `step` how far those after
        the others lie apart. The first call begins the stream; `last` ends it.
        """
        packet = self._packet
        packet.granulepos = granule_position - step * (len(packets) - 1)
        for number, data in enumerate(packets, start=1):
            packet.packet = data
            packet.bytes = len(data)
            packet.b_o_s = not self._begun
            packet.e_o_s = last and number == len(packets)
            self._begun = True
            if _packetin(self._stream, packet) != 0:
                raise OggError("libogg refused a packet")
            packet.granulepos += step
        page = self._page
        pages = b""
        while _library.ogg_stream_flush(self._stream, page):
            pages += string_at(page.header, page.header_len) + string_at(page.body, page.body_len)
        return pages


class OggReader:
    """Bytes in, split anywhere; packets out.

    Nothing stops the reader: what can't be used is skipped and counted in `damage`, under
    `skipped-bytes` (no page, or a wrong CRC), `hole` (page numbers jump), `foreign-page`
    (another stream's or version's), `broken-packet` (a continuation that doesn't fit),
    `huge-packet` (over 256 KiB). A page that begins a stream replaces the one in progress. What
    is kept in memory is bounded by a page and a packet.
    """

    def __init__(self) -> None:
        self.damage: Counter[str] = Counter()
        self._sync = _ogg.ogg_sync_state()
        _library.ogg_sync_init(self._sync)
        weakref.finalize(self, _library.ogg_sync_clear, self._sync)
        self._page = _ogg.ogg_page()
        self._packet = _ogg.ogg_packet()
        self._stream = _ogg.ogg_stream_state()
        weakref.finalize(self, _library.ogg_stream_clear, self._stream)
        self._serial: int | None = None  # of the stream in progress
        self._unfinished = 0  # bytes there are of a packet that goes on
        self._next_page = 0
        self._lost = 0

    def feed(self, data: bytes) -> list[Packet]:
        """The packets that are complete now that `data` has come."""
        ctypes.memmove(_sync_buffer(self._sync, len(data)), data, len(data))
        _library.ogg_sync_wrote(self._sync, len(data))
        return [packet for _ in self._pages() for packet in self._packets()]

    def _pages(self) -> Iterator[None]:
        """Bring each complete page into the stream."""
        while (found := _library.ogg_sync_pageseek(self._sync, self._page)) != 0:
            if found < 0:
                self.damage["skipped-bytes"] -= found
            elif self._take_page():
                yield

    def _take_page(self) -> bool:
        flags = self._page.header[5]
        serial = _library.ogg_page_serialno(self._page)
        begins = bool(flags & _FIRST) or self._serial is None
        # First of all: a page that isn't ours must not touch the packet in progress.
        if self._page.header[4] != _VERSION or not (begins or serial == self._serial):
            self.damage["foreign-page"] += 1
            return False
        if begins:
            _begin(self._stream, serial)
            self._serial, self._unfinished, self._lost = serial, 0, 0
        elif bool(flags & _CONTINUED) is not (self._unfinished > 0):
            self._forget("broken-packet")
        if _library.ogg_stream_pagein(self._stream, self._page) != 0:
            raise OggError("libogg has no memory for a page")
        self._count_lost(flags)
        self._count_unfinished()
        return True

    def _count_lost(self, flags: int) -> None:
        number = _library.ogg_page_pageno(self._page)
        if not flags & _FIRST:
            self._lost += max(0, number - self._next_page)
        self._next_page = number + 1

    def _count_unfinished(self) -> None:
        """A packet ends with a lacing value below 255: what comes after the last of these goes on
        on the next page (RFC 3533, section 5).
        """
        header, segments = self._page.header, self._page.header[26]
        going_on = 0
        while going_on < segments and header[26 + segments - going_on] == _GOES_ON:
            going_on += 1
        before = self._unfinished if going_on == segments else 0
        self._unfinished = before + _GOES_ON * going_on
        if self._unfinished > MAX_PACKET_BYTES:
            self._forget("huge-packet")

    def _forget(self, damage: str) -> None:
        """Drop the beginning of a packet whose end can't be used, which libogg would keep."""
        self.damage[damage] += 1
        self._unfinished = 0
        _library.ogg_stream_reset(self._stream)

    def _packets(self) -> Iterator[Packet]:
        while (found := _library.ogg_stream_packetout(self._stream, self._packet)) != 0:
            if found < 0:
                self.damage["hole"] += 1
                continue
            data = string_at(self._packet.packet, self._packet.bytes)
            lost, self._lost = self._lost, 0
            yield Packet(data, bool(self._packet.b_o_s), lost)


def _begin(stream: Any, serial: int) -> None:
    """Begin a new logical stream in a zeroed or used stream state."""
    _library.ogg_stream_clear(stream)
    if _library.ogg_stream_init(stream, serial) != 0:
        raise OggError("libogg has no memory for a stream")
