"""Opus in Ogg (RFC 7845): header packets, granule positions, and the two directions' streams."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from personaplex_bridge.audio.ogg import OggWriter

GRANULE_RATE_HZ = 48_000
"""Granule positions and pre-skip count samples at this rate, whatever the codec's (section 4)."""

HEAD_MAGIC = b"OpusHead"
TAGS_MAGIC = b"OpusTags"


def opus_head(pre_skip: int, input_rate_hz: int, channels: int = 1) -> bytes:
    """The identification header of a mono or stereo stream; `pre_skip` in samples at 48 kHz
    (section 5.1).
    """
    return HEAD_MAGIC + struct.pack("<BBHIhB", 1, channels, pre_skip, input_rate_hz, 0, 0)


def opus_tags(vendor: str) -> bytes:
    """The comment header without comments (section 5.2)."""
    name = vendor.encode()
    return TAGS_MAGIC + struct.pack("<I", len(name)) + name + struct.pack("<I", 0)


def is_header(packet: bytes) -> bool:
    """Whether a packet is a header and not audio."""
    return packet.startswith((HEAD_MAGIC, TAGS_MAGIC))


class OggOpusWriter:
    """Opus packets of a constant length in, pages out.

    `frame_samples` and `pre_skip` are counted at 48 kHz.
    """

    def __init__(
        self,
        *,
        serial: int,
        pre_skip: int,
        input_rate_hz: int,
        frame_samples: int,
        channels: int = 1,
    ) -> None:
        self._ogg = OggWriter(serial)
        self._pre_skip = pre_skip
        self._head = opus_head(pre_skip, input_rate_hz, channels)
        self._frame_samples = frame_samples
        self._position = 0

    def headers(self) -> list[bytes]:
        """The two header pages, each alone on its page (section 3). First, and once."""
        return [
            self._ogg.page([self._head], 0),
            self._ogg.page([opus_tags("personaplex-bridge")], 0),
        ]

    def page(self, packets: Sequence[bytes]) -> bytes:
        """One page with these packets, or several if they have more than 4 KB."""
        self._position += len(packets) * self._frame_samples
        return self._ogg.page(packets, self._position, step=self._frame_samples)

    def last_page(self, packets: Sequence[bytes], total_samples: int) -> bytes:
        """The pages that end the stream. The last packet, on a page of its own, is trimmed to
        `total_samples` at 48 kHz (section 4.4).
        """
        pages = self.page(packets[:-1]) if len(packets) > 1 else b""
        return pages + self._ogg.page(packets[-1:], self._pre_skip + total_samples, last=True)
