"""Encoder and decoder, each at its own rate."""

import ctypes

import numpy as np
import opuslib
import pytest

from personaplex_bridge.audio.mulaw import Pcm
from personaplex_bridge.audio.opus import (
    Application,
    OpusDecoder,
    OpusEncoder,
    library_version,
    packet_samples,
)
from personaplex_bridge.errors import OpusError
from tests.sound import find, speech_like

LOW_DELAY, VOIP = Application.LOW_DELAY, Application.VOIP
CORRUPT = b"\x03\x00"
"""TOC code 3 with a frame count of 0, which RFC 6716, section 3.2.5 forbids."""


def encoder(
    rate_hz: int = 8000, application: Application = LOW_DELAY, frame_ms: int = 20
) -> OpusEncoder:
    return OpusEncoder(
        rate_hz, application=application, bitrate=48_000, complexity=5, frame_ms=frame_ms
    )


def packets_of(signal: Pcm, using: OpusEncoder) -> list[bytes]:
    size = using.samples_per_frame
    whole = len(signal) // size * size
    return [using.encode(frame) for frame in signal[:whole].reshape(-1, size)]


@pytest.mark.parametrize("rate_hz", [8000, 24_000, 48_000])
@pytest.mark.parametrize(("application", "lookahead_ms"), [(LOW_DELAY, 2.5), (VOIP, 6.5)])
def test_lookahead(rate_hz: int, application: Application, lookahead_ms: float) -> None:
    assert encoder(rate_hz, application).lookahead == lookahead_ms * rate_hz / 1000


@pytest.mark.parametrize("frame_ms", [20, 40, 60, 80, 100, 120])
@pytest.mark.parametrize("application", Application)
@pytest.mark.parametrize(
    ("encoded_hz", "decoded_hz"), [(8000, 8000), (8000, 24_000), (24_000, 8000)]
)
def test_frames_of_each_length(
    frame_ms: int, application: Application, encoded_hz: int, decoded_hz: int
) -> None:
    using = encoder(encoded_hz, application, frame_ms)
    assert using.samples_per_frame == encoded_hz * frame_ms / 1000
    decoder = OpusDecoder(decoded_hz)
    for packet in packets_of(speech_like(0.5, encoded_hz), using):
        assert len(decoder.decode(packet)) == decoded_hz * frame_ms / 1000
        assert packet_samples(packet, 48_000) == 48 * frame_ms


@pytest.mark.parametrize(
    ("application", "rate_hz", "alike"),
    # VOIP's SILK at 8 kHz keeps the sound, not the wave.
    [(LOW_DELAY, 8000, 0.99), (LOW_DELAY, 24_000, 0.99), (VOIP, 8000, 0.8)],
)
def test_what_is_decoded_lags_by_the_lookahead(
    application: Application, rate_hz: int, alike: float
) -> None:
    using, decoder = encoder(rate_hz, application), OpusDecoder(rate_hz)
    signal = speech_like(1, rate_hz)
    heard = np.concatenate([decoder.decode(packet) for packet in packets_of(signal, using)])
    delay, correlation = find(signal, heard, most=rate_hz // 50)
    assert delay == using.lookahead
    assert correlation > alike


@pytest.mark.parametrize("frame_ms", [2.5, 5, 10])
def test_packets_shorter_than_ours(frame_ms: float) -> None:
    theirs = opuslib.Encoder(24_000, 1, opuslib.APPLICATION_RESTRICTED_LOWDELAY)
    size = int(24 * frame_ms)
    signal = speech_like(0.5, 24_000)
    decoder = OpusDecoder(24_000)
    heard = np.concatenate([
        decoder.decode(theirs.encode(frame.tobytes(), size))
        for frame in signal[: len(signal) // size * size].reshape(-1, size)
    ])  # fmt: skip
    assert len(heard) == len(signal)
    assert find(signal, heard, most=120)[1] > 0.95


def test_a_stereo_stream_is_mixed_to_mono() -> None:
    theirs = opuslib.Encoder(24_000, 2, opuslib.APPLICATION_AUDIO)
    signal = speech_like(1, 24_000)
    # All in one channel: half as loud in the mix of both.
    stereo = np.stack([signal, np.zeros_like(signal)], axis=1)
    decoder = OpusDecoder(24_000)
    heard = np.concatenate([
        decoder.decode(theirs.encode(frame.tobytes(), 480)) for frame in stereo.reshape(-1, 480, 2)
    ])  # fmt: skip
    assert len(heard) == len(signal)
    assert find(signal, heard, most=480)[1] > 0.95
    assert np.std(heard) == pytest.approx(np.std(signal) / 2, rel=0.1)


@pytest.mark.parametrize("packet", [CORRUPT, b"\xff", b"\x03", b"", b"\x01\x00"])
def test_a_corrupt_or_empty_packet_raises_and_the_next_is_decoded(packet: bytes) -> None:
    using, decoder = encoder(), OpusDecoder(8000)
    with pytest.raises(OpusError):
        decoder.decode(packet)
    assert len(decoder.decode(using.encode(speech_like(0.02, 8000)))) == 160


@pytest.mark.parametrize("packet", [b"\x03", b"", CORRUPT])
def test_length_of_a_packet_whose_header_makes_no_sense(packet: bytes) -> None:
    with pytest.raises(OpusError):
        packet_samples(packet, 48_000)


def test_concealing_before_the_first_packet_takes_20_ms() -> None:
    assert len(OpusDecoder(8000).conceal()) == 160


@pytest.mark.parametrize("frame_ms", [20, 40, 60, 80, 100, 120])
def test_concealing_takes_as_long_as_the_last_packet(frame_ms: int) -> None:
    using, decoder = encoder(frame_ms=frame_ms), OpusDecoder(8000)
    decoder.decode(packets_of(speech_like(0.5, 8000), using)[0])
    with pytest.raises(OpusError):
        decoder.decode(CORRUPT)
    assert len(decoder.conceal()) == 8 * frame_ms
    assert len(decoder.conceal()) == 8 * frame_ms


@pytest.mark.parametrize("application", Application)
def test_after_a_reset_a_decoder_is_as_new(application: Application) -> None:
    packets = packets_of(speech_like(0.5, 8000), encoder(8000, application, frame_ms=60))
    decoder, fresh = OpusDecoder(8000), OpusDecoder(8000)
    for packet in packets:
        decoder.decode(packet)
    decoder.reset()
    assert len(decoder.conceal()) == 160
    decoder.reset()
    for packet in packets:
        assert np.array_equal(decoder.decode(packet), fresh.decode(packet))


def test_silence_is_a_packet_like_any_other() -> None:
    using, decoder = encoder(), OpusDecoder(8000)
    for _ in range(100):
        packet = using.encode(np.zeros(160, np.int16))
        assert len(packet) > 2  # shorter ones stand for discontinuous transmission
        assert not decoder.decode(packet).any()


def test_decoded_samples_are_the_callers_own() -> None:
    """The decoder's buffer is used again for the next packet."""
    using, decoder = encoder(), OpusDecoder(8000)
    one, other = packets_of(speech_like(0.1, 8000), using)[3:]
    first = decoder.decode(one)
    before = first.copy()
    decoder.decode(other)
    assert np.array_equal(first, before)


@pytest.mark.parametrize("samples", [159, 161, 320])
def test_a_frame_of_the_wrong_length_is_refused(samples: int) -> None:
    with pytest.raises(ValueError, match="broadcast"):
        encoder().encode(np.zeros(samples, np.int16))


@pytest.mark.parametrize("rate_hz", [0, 11_025, 44_100])
def test_a_rate_opus_does_not_know_is_refused(rate_hz: int) -> None:
    with pytest.raises(OpusError, match=str(rate_hz)):
        encoder(rate_hz)
    with pytest.raises(OpusError, match=str(rate_hz)):
        OpusDecoder(rate_hz)


def test_a_setting_libopus_refuses() -> None:
    with pytest.raises(OpusError, match="setting"):
        OpusEncoder(8000, application=VOIP, bitrate=48_000, complexity=11)


def test_library_version() -> None:
    assert library_version().startswith("libopus ")


def test_opuslibs_own_declarations_are_left_alone() -> None:
    assert opuslib.api.encoder.libopus_ctl.argtypes != (ctypes.c_void_p, ctypes.c_int)
    assert opuslib.Encoder(8000, 1, opuslib.APPLICATION_VOIP).complexity >= 0
