"""Caller to model: mu-law in, Ogg Opus out."""

import secrets
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.ogg import OggReader
from personaplex_bridge.audio.oggopus import is_header
from personaplex_bridge.audio.opus import OpusDecoder, packet_samples
from personaplex_bridge.audio.uplink import ENCODINGS, make_uplink
from tests.pages import FIRST, LAST, packets_of, read_pages
from tests.sound import find, speech_like
from tests.splits import split_at

BOTH = pytest.mark.parametrize("name", ["native", "soxr"])
CALLER = mulaw.encode(speech_like(1.5, 8000))
LOOKAHEAD_MS = 2.5
SOXR_HOLDS_MS = 73
"""At most, going up (measured)."""


@pytest.fixture
def _same_serial(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(secrets, "randbits", lambda bits: 2**bits - 1)


def stream_of(name: str, chunks: Sequence[bytes], packets_per_page: int = 4) -> bytes:
    uplink = make_uplink(name, packets_per_page)
    stream = uplink.headers()
    for chunk in chunks:
        stream += b"".join(uplink.feed(chunk))
    return stream + uplink.flush()


def audio_packets(ogg: bytes) -> list[bytes]:
    reader = OggReader()
    packets = [packet.data for packet in reader.feed(ogg) if not is_header(packet.data)]
    assert not reader.damage
    return packets


def decoded(packets: Sequence[bytes], rate_hz: int) -> Pcm:
    decoder = OpusDecoder(rate_hz)
    return np.concatenate([decoder.decode(packet) for packet in packets])


@BOTH
@given(data=st.data())
@settings(max_examples=25)
def test_as_many_samples_come_out_as_went_in(name: str, data: st.DataObject) -> None:
    size = data.draw(st.integers(0, 5000) | st.integers(0, 20).map(lambda n: n * 160))
    pages = read_pages(stream_of(name, [CALLER[:size]]))
    pre_skip = int.from_bytes(pages[0].body[10:12], "little")
    available = sum(packet_samples(packet, 48_000) for packet in packets_of(pages)[2:])
    assert pages[-1].flags == LAST
    assert pages[-1].granule - pre_skip == 6 * size
    # The last packet is the first that reaches so far: nothing is missing, none is superfluous.
    assert 0 <= available - pages[-1].granule < 960


CHUNKS = pytest.mark.parametrize("chunk", [1, 7, 160, 333, 640])


@CHUNKS
@BOTH
@pytest.mark.usefixtures("_same_serial")
def test_any_split_gives_the_same_pages(name: str, chunk: int) -> None:
    parts = [CALLER[at : at + chunk] for at in range(0, len(CALLER), chunk)]
    assert stream_of(name, parts) == stream_of(name, [CALLER])


@given(st.lists(st.integers(0, 3000), max_size=12))
@settings(max_examples=25)
def test_any_split_gives_the_same_packets(cuts: list[int]) -> None:
    caller = CALLER[:3000]
    split, whole = stream_of("native", split_at(caller, cuts)), stream_of("native", [caller])
    assert audio_packets(split) == audio_packets(whole)


@BOTH
@pytest.mark.parametrize("packets_per_page", [1, 2, 4])
def test_packets_per_page(name: str, packets_per_page: int) -> None:
    uplink = make_uplink(name, packets_per_page)
    headers = read_pages(uplink.headers())
    assert [page.flags for page in headers] == [FIRST, 0]
    assert [len(page.packets) for page in headers] == [1, 1]
    pages = [
        page for at in range(0, len(CALLER), 160) for page in uplink.feed(CALLER[at : at + 160])
    ]
    for number, data in enumerate(pages, start=1):
        (page,) = read_pages(data)
        assert [packet_samples(packet, 24_000) for packet in page.packets] == [
            480
        ] * packets_per_page
        assert page.granule == number * packets_per_page * 960


def test_a_page_of_four_is_one_frame_of_the_model() -> None:
    """80 ms, given out with the last of its mu-law and not a byte later."""
    uplink = make_uplink("native", 4)
    uplink.headers()
    for _ in range(5):
        assert uplink.feed(CALLER[:639]) == []
        (page,) = uplink.feed(CALLER[639:640])
        packets = read_pages(page)[0].packets
        assert sum(packet_samples(packet, 24_000) for packet in packets) == 1920
    assert uplink.packets == 20


@BOTH
def test_silence_is_sent_as_packets_and_none_is_empty(name: str) -> None:
    ogg = stream_of(name, [mulaw.SILENCE * 8000])
    packets = audio_packets(ogg)
    assert len(packets) >= 50
    assert all(packets)
    assert np.abs(decoded(packets, 24_000)).max() == 0


def test_native_comes_back_after_the_lookahead() -> None:
    heard = decoded(audio_packets(stream_of("native", [CALLER])), 8000)
    delay, correlation = find(mulaw.decode(CALLER), heard, most=320)
    assert delay == LOOKAHEAD_MS * 8
    assert correlation > 0.99


def test_native_heard_at_the_models_rate() -> None:
    """The model's decoder changes the rate; it adds no delay worth naming."""
    heard = decoded(audio_packets(stream_of("native", [CALLER])), 24_000)
    delay, correlation = find(mulaw.decode(CALLER), heard[::3], most=320)
    assert abs(delay - LOOKAHEAD_MS * 8) <= 1
    assert correlation > 0.95


def test_soxr_comes_back_after_the_lookahead_too() -> None:
    """What soxr holds back it holds back in wall time; sample positions don't move."""
    heard = decoded(audio_packets(stream_of("soxr", [CALLER])), 24_000)
    delay, correlation = find(mulaw.decode(CALLER), heard[::3], most=320)
    assert abs(delay - LOOKAHEAD_MS * 8) <= 1
    assert correlation > 0.95


def test_what_soxr_holds_back_is_bounded() -> None:
    uplink = make_uplink("soxr", 1)
    for fed in range(1, 100):
        uplink.feed(CALLER[:160])
        assert 20 * (fed - uplink.packets) <= SOXR_HOLDS_MS + 20


def test_calls_have_serial_numbers_of_their_own() -> None:
    serials = {read_pages(make_uplink("native").headers())[0].serial for _ in range(5)}
    assert len(serials) > 1


def test_what_follows_in_lasting_silence_is_what_the_encoder_would_make() -> None:
    """And speech after it sounds as if the encoder had heard all of the silence."""
    caller = CALLER[:9600] + mulaw.SILENCE * 24_320 + CALLER[:9600]
    uplink, encoder = make_uplink("native"), ENCODINGS["native"].encoder()
    stream = uplink.headers()
    for begin in range(0, len(caller), 640):
        stream += b"".join(uplink.feed(caller[begin : begin + 640]))
    packets = audio_packets(stream)
    pcm = mulaw.decode(caller).reshape(-1, encoder.samples_per_frame)
    expected = [encoder.encode(frame) for frame in pcm]
    assert len(packets) == uplink.packets == len(expected)
    assert packets[:210] == expected[:210]
    assert len(set(packets[100:210])) == 1
    after, as_usual = (decoded(heard, 8000)[33_600:] for heard in (packets, expected))
    assert find(as_usual, after, most=1)[1] > 0.99
