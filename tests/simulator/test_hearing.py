"""The model stand-in's ears: what the real server closes over, and what it tolerates."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.audio.opus import Application, OpusEncoder
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.simulator.behaviours import FRAME_SAMPLES
from personaplex_bridge.simulator.hearing import CONCEALED_SAMPLES, StrictHearing, Unacceptable
from tests.pages import CONTINUED, FIRST, LAST, NO_PACKET_ENDS, Page, page_of
from tests.sound import find, speech_like

SERIAL = 7
HEAD = page_of(opus_head(120, 8000), flags=FIRST, serial=SERIAL).to_bytes()
TAGS = page_of(opus_tags("test"), serial=SERIAL, sequence=1).to_bytes()


def packets(count: int, frame_ms: int = 80) -> list[bytes]:
    mode = Application.LOW_DELAY
    encoder = OpusEncoder(24_000, application=mode, bitrate=64_000, complexity=5, frame_ms=frame_ms)
    signal = speech_like(count * frame_ms / 1000, 24_000)
    return [encoder.encode(frame) for frame in signal.reshape(count, -1)]


PACKETS = packets(4)


def page(*contents: bytes, **fields: int) -> bytes:
    return page_of(*contents, **({"serial": SERIAL} | fields)).to_bytes()


def pages(contents: Sequence[bytes] = PACKETS, first: int = 2) -> list[bytes]:
    return [page(packet, sequence=number) for number, packet in enumerate(contents, first)]


def frames_heard(messages: Sequence[bytes]) -> int:
    hearing = StrictHearing()
    return sum(len(hearing.feed(message)) for message in messages)


def test_the_uplinks_own_stream_is_heard() -> None:
    caller = speech_like(2, 8000)
    uplink = make_uplink("native")
    messages = [uplink.headers(), *uplink.feed(mulaw.encode(caller))]
    hearing = StrictHearing()
    frames = [frame for message in messages for frame in hearing.feed(message)]
    assert [len(frame) for frame in frames] == [FRAME_SAMPLES] * 25
    assert hearing.samples == 48_000
    delay, correlation = find(caller, np.concatenate(frames)[::3], most=80)
    assert abs(delay - 2.5 * 8) <= 1
    assert correlation > 0.95


@pytest.mark.parametrize("frame_ms", [5, 10, 20, 40, 60, 80, 100, 120])
def test_packets_of_any_length(frame_ms: int) -> None:
    contents = packets(1200 // frame_ms, frame_ms)
    assert frames_heard([HEAD, TAGS, *pages(contents)]) == 15


def test_a_part_of_a_frame_waits_for_the_rest() -> None:
    hearing = StrictHearing()
    hearing.feed(HEAD + TAGS)
    assert [len(hearing.feed(message)) for message in pages(packets(4, 20))] == [0, 0, 0, 1]


TOLERATED: dict[str, list[bytes]] = {
    "several packets a page": [HEAD, TAGS, page(*PACKETS, sequence=2)],
    "several pages a message": [HEAD + TAGS + b"".join(pages())],
    "pages split over messages": [
        *(byte.to_bytes() for byte in HEAD + TAGS + b"".join(pages())),
    ],
    "no OpusTags": [HEAD, *pages(first=1)],
    "gaps in the sequence": [HEAD, TAGS, *pages(first=100)],
    "odd granules": [
        *(HEAD, TAGS),
        *(page(data, sequence=n, granule=5 - n) for n, data in enumerate(PACKETS, 2)),
    ],
    "an end, and on it goes": [
        *(HEAD, TAGS),
        page(PACKETS[0], sequence=2, flags=LAST),
        *pages(PACKETS[1:], first=3),
    ],
    "empty messages": [b"", HEAD, b"", TAGS, b"", *pages()],
}


@pytest.mark.parametrize("name", TOLERATED)
def test_tolerated(name: str) -> None:
    assert frames_heard(TOLERATED[name]) == 4


def test_raw_opus_without_ogg_is_silence() -> None:
    assert frames_heard(PACKETS) == 0


def broken_crc() -> list[bytes]:
    bad = pages()[1]
    return [HEAD, TAGS, pages()[0], bad[:-1] + bytes([bad[-1] ^ 1]), *pages()[2:]]


UNACCEPTABLE: dict[str, Callable[[], list[bytes]]] = {
    "the first page is not OpusHead": lambda: [page(b"other", flags=FIRST), TAGS, *pages()],
    "the first page does not begin a stream": lambda: [TAGS, *pages()],
    "OpusHead without the beginning flag": lambda: [page(opus_head(0, 8000)), TAGS, *pages()],
    "a wrong CRC": broken_crc,
    "a continued flag on a page that continues nothing": lambda: [
        *(HEAD, TAGS),
        page(PACKETS[0], sequence=2, flags=CONTINUED),
    ],
    "no continued flag on a page that continues": lambda: [
        *(HEAD, TAGS),
        Page(b"\xff", bytes(255), granule=NO_PACKET_ENDS, serial=SERIAL, sequence=2).to_bytes(),
        page(PACKETS[0], sequence=3),
    ],
    "a new beginning with the same serial": lambda: [HEAD, TAGS, *pages(), HEAD],
    "a new beginning with another serial": lambda: [
        *(HEAD, TAGS, *pages()),
        page(opus_head(0, 8000), serial=8, flags=FIRST),
    ],
    "another serial without a beginning": lambda: [HEAD, TAGS, page(PACKETS[0], serial=8)],
    "garbage between pages": lambda: [HEAD, TAGS, b"garbage", *pages()],
    "garbage within a page": lambda: [HEAD, TAGS, page(b"\xff\xff\xff", sequence=2)],
    "corrupt Opus": lambda: [HEAD, TAGS, page(b"\x03\x00", sequence=2)],
}


@pytest.mark.parametrize("name", UNACCEPTABLE)
def test_unacceptable(name: str) -> None:
    with pytest.raises(Unacceptable):
        frames_heard(UNACCEPTABLE[name]())


def test_an_empty_packet_freezes_the_server_and_injects_ten_seconds() -> None:
    hearing = StrictHearing()
    hearing.feed(HEAD + TAGS + pages()[0])
    frames = hearing.feed(page(b"", sequence=3))
    assert hearing.froze
    assert len(frames) == CONCEALED_SAMPLES // FRAME_SAMPLES == 125
    assert not np.concatenate(frames).any()
