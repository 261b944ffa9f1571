"""Model to caller: Ogg Opus in, whole 20 ms frames of mu-law out."""

from collections.abc import Sequence

import numpy as np
import opuslib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.downlink import MAX_CONCEALED, DownlinkTranscoder, make_downlink
from personaplex_bridge.audio.mulaw import FRAME_BYTES, Pcm
from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.audio.opus import Application, OpusEncoder
from tests.pages import page_of
from tests.sound import find, speech_like
from tests.splits import split_at

BOTH = pytest.mark.parametrize("name", ["native", "soxr"])
SPEECH = speech_like(2, 24_000)
CORRUPT = b"\x03\x00"
SOXR_HOLDS_MS = 73


def encoder(frame_ms: int = 80) -> OpusEncoder:
    return OpusEncoder(
        24_000, application=Application.LOW_DELAY, bitrate=64_000, complexity=5, frame_ms=frame_ms
    )


def packets_of(signal: Pcm, frame_ms: int = 80) -> list[bytes]:
    using = encoder(frame_ms)
    return [using.encode(frame) for frame in signal.reshape(-1, using.samples_per_frame)]


def headers() -> list[bytes]:
    return [opus_head(3840, 24_000), opus_tags("server")]


def messages_of(packets: Sequence[bytes]) -> list[bytes]:
    """A page a message, in the server's own shape: granule positions at half the rate RFC 7845
    says, a pre-skip of 80 ms that isn't one, serial 42, no end.
    """
    writer = OggWriter(42)
    pages = [writer.page([header], 0) for header in headers()]
    return pages + [writer.page([packet], 1920 * n) for n, packet in enumerate(packets, start=1)]


def heard(downlink: DownlinkTranscoder, messages: Sequence[bytes]) -> bytes:
    return b"".join(map(downlink.feed, messages)) + downlink.flush()


SERVERS_OWN = messages_of(packets_of(SPEECH))


def test_each_message_of_the_server_gives_80_ms_at_once() -> None:
    downlink = make_downlink("native")
    sizes = [len(downlink.feed(message)) for message in SERVERS_OWN]
    assert sizes == [0, 0] + [640] * 25
    assert downlink.flush() == b""
    assert downlink.packets == 25
    assert not downlink.damage


@BOTH
def test_no_sample_is_lost_and_none_is_added(name: str) -> None:
    """Neither by the pre-skip nor by the granule positions; soxr's tail comes with the flush."""
    downlink = make_downlink(name)
    assert len(heard(downlink, SERVERS_OWN)) == len(SPEECH) // 3
    assert not downlink.damage


@pytest.mark.parametrize(("name", "alike"), [("native", 0.98), ("soxr", 0.98)])
def test_speech_comes_through_after_the_servers_own_lookahead(name: str, alike: float) -> None:
    downlink = make_downlink(name)
    caller_hears = mulaw.decode(heard(downlink, SERVERS_OWN))
    delay, correlation = find(SPEECH[::3], caller_hears, most=160)
    assert abs(delay - 2.5 * 8) <= 1
    assert correlation > alike


def test_what_soxr_holds_back_is_bounded() -> None:
    downlink = make_downlink("soxr")
    given_ms = 0
    for number, message in enumerate(SERVERS_OWN[2:], start=1):
        given_ms += len(downlink.feed(message)) // 8
        assert 80 * number - given_ms <= SOXR_HOLDS_MS + 20


@BOTH
def test_headers_alone_give_nothing(name: str) -> None:
    downlink = make_downlink(name)
    assert [downlink.feed(message) for message in SERVERS_OWN[:2]] == [b"", b""]
    assert downlink.feed(b"") == b""
    assert downlink.flush() == b""
    assert downlink.packets == 0


@BOTH
def test_several_pages_in_a_message(name: str) -> None:
    """Kyutai's server sends four in its first."""
    one_by_one = heard(make_downlink(name), SERVERS_OWN)
    together = heard(make_downlink(name), [b"".join(SERVERS_OWN[:4]), b"".join(SERVERS_OWN[4:])])
    assert together == one_by_one


@given(st.lists(st.integers(0, 20_000), max_size=30))
@settings(max_examples=25)
def test_pages_split_anywhere_give_the_same_sound(cuts: list[int]) -> None:
    stream = b"".join(SERVERS_OWN)
    downlink = make_downlink("native")
    assert heard(downlink, split_at(stream, cuts)) == heard(make_downlink("native"), SERVERS_OWN)
    assert not downlink.damage


def test_byte_by_byte() -> None:
    stream = b"".join(SERVERS_OWN[:6])
    parts = [stream[at : at + 1] for at in range(len(stream))]
    assert heard(make_downlink("native"), parts) == heard(make_downlink("native"), SERVERS_OWN[:6])


@BOTH
@pytest.mark.parametrize("frame_ms", [5, 10, 20, 40, 60, 80, 100, 120])
@pytest.mark.parametrize("packets_per_page", [1, 3])
def test_packets_of_any_length(name: str, frame_ms: int, packets_per_page: int) -> None:
    size = 24 * frame_ms
    whole = len(SPEECH) // size * size
    packets = packets_of(SPEECH[:whole], frame_ms)
    writer = OggWriter(1)
    messages = [writer.page([header], 0) for header in headers()]
    messages += [
        writer.page(packets[at : at + packets_per_page], 0)
        for at in range(0, len(packets), packets_per_page)
    ]
    downlink = make_downlink(name)
    given_out = [downlink.feed(message) for message in messages]
    assert all(len(part) % FRAME_BYTES == 0 for part in given_out)
    tail = downlink.flush()
    assert len(tail) % FRAME_BYTES == 0
    total = len(b"".join(given_out) + tail)
    assert total == -(-whole // 3 // FRAME_BYTES) * FRAME_BYTES
    assert downlink.packets == len(packets)


def test_packets_of_2_5_ms() -> None:
    theirs = opuslib.Encoder(24_000, 1, opuslib.APPLICATION_RESTRICTED_LOWDELAY)
    packets = [theirs.encode(frame.tobytes(), 60) for frame in SPEECH[:4800].reshape(-1, 60)]
    downlink = make_downlink("native")
    sizes = [len(downlink.feed(message)) for message in messages_of(packets)]
    assert sizes == [0, 0] + ([0] * 7 + [160]) * 10


@given(st.lists(st.sampled_from([5, 10, 20, 40, 60]), min_size=1, max_size=12))
@settings(max_examples=25)
def test_mixed_lengths_come_in_whole_frames(lengths_ms: list[int]) -> None:
    packets = [encoder(ms).encode(SPEECH[: 24 * ms]) for ms in lengths_ms]
    downlink = make_downlink("native")
    parts = [downlink.feed(message) for message in messages_of(packets)]
    assert all(len(part) % FRAME_BYTES == 0 for part in parts)
    assert sum(map(len, parts)) == 8 * sum(lengths_ms) // FRAME_BYTES * FRAME_BYTES
    assert len(downlink.flush()) == (FRAME_BYTES if sum(lengths_ms) % 20 else 0)
    assert downlink.flush() == b""


def test_a_stereo_stream() -> None:
    theirs = opuslib.Encoder(24_000, 2, opuslib.APPLICATION_AUDIO)
    stereo = np.stack([SPEECH, SPEECH], axis=1)
    packets = [theirs.encode(frame.tobytes(), 480) for frame in stereo.reshape(-1, 480, 2)]
    caller_hears = mulaw.decode(heard(make_downlink("native"), messages_of(packets)))
    assert len(caller_hears) == len(SPEECH) // 3
    assert find(SPEECH[::3], caller_hears, most=160)[1] > 0.95


@pytest.mark.parametrize(
    ("granule", "serial", "pre_skip"), [(0, 42, 0), (-1, 0, 65535), (2**62, 2**31 - 1, 3840)]
)
def test_granule_serial_and_pre_skip_do_not_matter(
    granule: int, serial: int, pre_skip: int
) -> None:
    writer = OggWriter(serial)
    messages = [
        writer.page([opus_head(pre_skip, 48_000)], 0),
        writer.page([opus_tags("other")], 0),
        *(writer.page([packet], granule) for packet in packets_of(SPEECH)),
    ]
    assert heard(make_downlink("native"), messages) == heard(make_downlink("native"), SERVERS_OWN)


def test_the_end_of_the_stream_is_no_end() -> None:
    """A page that says it is the last, and one packet more."""
    packets = packets_of(SPEECH)[:3]
    writer = OggWriter(1)
    pages = [writer.page([header], 0) for header in headers()]
    pages += [writer.page([packet], 1, last=number == 1) for number, packet in enumerate(packets)]
    assert len(heard(make_downlink("native"), pages)) == 3 * 640


@BOTH
@pytest.mark.parametrize("corrupt", [CORRUPT, b"", b"\xff"])
def test_a_corrupt_packet_is_concealed_at_the_length_of_the_last(name: str, corrupt: bytes) -> None:
    packets = packets_of(SPEECH)
    packets[10] = corrupt
    downlink = make_downlink(name)
    caller_hears = mulaw.decode(heard(downlink, messages_of(packets)))
    assert len(caller_hears) == len(SPEECH) // 3
    assert downlink.damage == {"corrupt-packet": 1}
    assert downlink.packets == 25
    # What follows is where it belongs.
    after = find(SPEECH[12 * 1920 :: 3], caller_hears[12 * 640 :], most=160)
    assert abs(after[0] - 2.5 * 8) <= 1
    assert after[1] > 0.95


@BOTH
def test_a_page_with_a_wrong_crc_is_counted_and_concealed(name: str) -> None:
    messages = list(SERVERS_OWN)
    messages[10] = messages[10][:-1] + bytes([messages[10][-1] ^ 1])
    downlink = make_downlink(name)
    caller_hears = heard(downlink, messages)
    assert len(caller_hears) == len(SPEECH) // 3
    assert downlink.damage == {"skipped-bytes": len(messages[10]), "hole": 1}
    assert (downlink.packets, downlink.concealed) == (24, 1)
    # What follows is where it belongs.
    after = find(SPEECH[10 * 1920 :: 3], mulaw.decode(caller_hears)[10 * 640 :], most=160)
    assert abs(after[0] - 2.5 * 8) <= 1
    assert after[1] > 0.95


@pytest.mark.parametrize("missing", [1, 2, MAX_CONCEALED, MAX_CONCEALED + 1, 10])
def test_missing_pages_are_concealed_up_to_a_bound(missing: int) -> None:
    downlink = make_downlink("native")
    sizes = [len(downlink.feed(m)) for m in SERVERS_OWN[:12] + SERVERS_OWN[12 + missing :]]
    made_up = min(missing, MAX_CONCEALED)
    assert sizes[:12] == [0, 0] + [640] * 10
    assert sizes[12] == 640 * (1 + made_up)
    assert downlink.concealed == made_up
    assert downlink.packets == 25 - missing
    assert downlink.decoded_ms == 80 * (25 - missing + made_up)


def test_pages_that_are_missing_before_the_first_sound_are_not_made_up() -> None:
    downlink = make_downlink("native")
    assert len(heard(downlink, SERVERS_OWN[:1] + SERVERS_OWN[5:])) == 22 * 640
    assert downlink.concealed == 0


def test_what_is_made_up_counts_towards_the_flood_bound() -> None:
    """Pages whose numbers jump, 2,000 of them in one message."""
    (packet,) = packets_of(np.zeros(1920, np.int16))
    downlink = make_downlink("native")
    downlink.feed(b"".join(SERVERS_OWN[:3]))
    pages = [page_of(packet, serial=42, sequence=10 * n).to_bytes() for n in range(1, 2000)]
    assert len(downlink.feed(b"".join(pages))) <= 10 * 8000 + MAX_CONCEALED * 640
    assert downlink.damage["flood"] > 1900


def test_a_new_head_begins_again() -> None:
    downlink = make_downlink("native")
    twice = heard(downlink, SERVERS_OWN + SERVERS_OWN)
    once = heard(make_downlink("native"), SERVERS_OWN)
    assert twice == once + once
    assert not downlink.damage


def test_a_stream_without_headers_is_heard_all_the_same() -> None:
    downlink = make_downlink("native")
    assert len(heard(downlink, SERVERS_OWN[2:])) == 25 * 640


@given(st.lists(st.binary(max_size=60), max_size=10), st.booleans())
@settings(max_examples=50)
def test_no_packet_raises(packets: list[bytes], begun: bool) -> None:
    downlink = make_downlink("native")
    if begun:
        downlink.feed(SERVERS_OWN[0])
    for number, packet in enumerate(packets):
        page = page_of(packet, serial=42, sequence=number + 1)
        assert len(downlink.feed(page.to_bytes())) % FRAME_BYTES == 0


@given(st.lists(st.binary(max_size=200) | st.sampled_from(SERVERS_OWN), max_size=10))
def test_no_bytes_raise(messages: list[bytes]) -> None:
    downlink = make_downlink("native")
    assert all(len(downlink.feed(message)) % FRAME_BYTES == 0 for message in messages)


def test_a_flood_is_bounded_and_counted() -> None:
    """One message with 26 s of sound in it: ten are played."""
    packets = packets_of(np.zeros(1920, np.int16)) * 325
    ogg = OggWriter(1)
    stream = ogg.page([opus_head(0, 24_000)], 0) + ogg.page(packets, 0)
    downlink = make_downlink("native")
    assert len(downlink.feed(stream)) == 10 * 8000
    assert downlink.damage == {"flood": 200}
