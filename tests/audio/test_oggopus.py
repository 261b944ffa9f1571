"""Header packets and granule positions of RFC 7845."""

import struct

from personaplex_bridge.audio.oggopus import OggOpusWriter, is_header, opus_head, opus_tags
from tests.pages import FIRST, LAST, read_pages


def test_identification_header() -> None:
    magic, version, channels, pre_skip, rate_hz, gain, family = struct.unpack(
        "<8sBBHIhB", opus_head(120, 8000)
    )
    assert (magic, version, channels, family) == (b"OpusHead", 1, 1, 0)
    assert (pre_skip, rate_hz, gain) == (120, 8000, 0)


def test_comment_header() -> None:
    assert opus_tags("naïve") == b"OpusTags\x06\0\0\0na\xc3\xafve\0\0\0\0"


def test_headers_are_told_from_audio() -> None:
    assert is_header(opus_head(0, 8000))
    assert is_header(opus_tags(""))
    assert not is_header(b"OpusFace")
    assert not is_header(b"")


def test_pages() -> None:
    writer = OggOpusWriter(serial=5, pre_skip=120, input_rate_hz=8000, frame_samples=960)
    stream = b"".join(writer.headers())
    stream += writer.page([b"1", b"2", b"3", b"4"]) + writer.page([b"5"])
    stream += writer.last_page([b"6"], total_samples=5000)
    pages = read_pages(stream)
    assert [page.flags for page in pages] == [FIRST, 0, 0, 0, LAST]
    # The granule position counts the samples that can be decoded so far, pre-skip among them.
    assert [page.granule for page in pages] == [0, 0, 3840, 4800, 5120]
    assert pages[0].packets == [opus_head(120, 8000)]
    assert len(pages[1].packets) == 1
    assert pages[2].packets == [b"1", b"2", b"3", b"4"]
