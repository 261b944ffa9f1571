"""The two formats of media, and what is made in either."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio import l16, mulaw
from personaplex_bridge.audio.caller_audio import CallerAudio
from personaplex_bridge.audio.files import read_media, write_wav
from personaplex_bridge.audio.format import FORMATS, HD, TELEPHONE, AudioFormat
from personaplex_bridge.audio.gate import NoiseGate
from personaplex_bridge.audio.mulaw import QUIET
from personaplex_bridge.audio.narrow import NarrowView
from personaplex_bridge.audio.playout import Playout
from personaplex_bridge.audio.ringback import ringback, waiting_sounds
from personaplex_bridge.audio.tones import recovery_chime
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.audio.voice import VoiceDetector
from personaplex_bridge.errors import AudioError
from tests.sound import speech_like, wide_speech
from tests.splits import split_at

either = pytest.mark.parametrize("audio_format", FORMATS.values(), ids=FORMATS)


def test_their_figures() -> None:
    telephone = (TELEPHONE.encoding, TELEPHONE.bytes_per_s, TELEPHONE.frame_bytes)
    assert telephone == ("audio/x-mulaw", 8_000, 160)
    assert (HD.encoding, HD.bytes_per_s, HD.frame_bytes) == ("audio/L16", 48_000, 960)


@either
def test_silence_is_silence(audio_format: AudioFormat) -> None:
    assert not audio_format.decode(audio_format.silent_frame).any()
    assert audio_format.loudness(audio_format.silent_frame * 3) == [False] * 3
    assert len(audio_format.silent_frame) == audio_format.bytes_in(20)


@either
@given(st.floats(0, 1e6))
def test_places_are_those_of_whole_samples(audio_format: AudioFormat, time_ms: float) -> None:
    place = audio_format.bytes_in(time_ms)
    assert place % audio_format.sample_bytes == 0
    assert abs(audio_format.ms_of(place) - time_ms) <= 1000 / audio_format.rate_hz


@given(st.lists(st.integers(-32768, 32767)))
def test_l16_is_the_more_significant_byte_first(samples: list[int]) -> None:
    written = b"".join(sample.to_bytes(2, "big", signed=True) for sample in samples)
    assert l16.encode(np.array(samples, np.int16)) == written
    assert l16.decode(written).tolist() == samples


@pytest.mark.parametrize("sample", [QUIET, -QUIET, 0])
def test_a_quiet_sample_is_no_sound(sample: int) -> None:
    frames = np.zeros(960, np.int16)
    frames[-1] = sample
    assert HD.loudness(l16.encode(frames)) == [False, False]


@pytest.mark.parametrize("sample", [QUIET + 1, -QUIET - 1, -32768, 32767])
def test_a_loud_sample_is_sound(sample: int) -> None:
    frames = np.zeros(960, np.int16)
    frames[480] = sample
    assert HD.loudness(l16.encode(frames)) == [False, True]


# What the voice detector hears of HD.


def narrow(pcm: np.ndarray) -> np.ndarray:
    return NarrowView().feed(l16.encode(pcm.astype(np.int16)))


@pytest.mark.parametrize(
    ("hz", "least_db", "most_db"),
    [(100, -0.1, 0.1), (1000, -0.1, 0.1), (3200, -1, 0.1), (4800, -99, -48), (8000, -99, -50)],
)
def test_the_narrow_view_is_the_telephones_band(hz: int, least_db: float, most_db: float) -> None:
    sine = 20_000 * np.sin(2 * np.pi * hz * np.arange(24_000) / 24_000)
    heard = narrow(sine)[200:].astype(float)
    gain_db = 20 * np.log10(np.sqrt(np.mean(heard**2)) / (20_000 / 2**0.5) + 1e-9)
    assert least_db <= gain_db <= most_db


@given(st.lists(st.integers(1, 19), max_size=5))
def test_the_narrow_view_comes_in_any_pieces(cuts: list[int]) -> None:
    whole, view = l16.encode(wide_speech(0.4)), NarrowView()
    parts = split_at(whole, sorted({cut * HD.frame_bytes for cut in cuts}))
    heard = np.concatenate([view.feed(part) for part in parts])
    assert heard.tolist() == narrow(wide_speech(0.4)).tolist()


def test_a_voice_in_hd_is_a_voice() -> None:
    """As told of the same sound on the telephone."""
    pcm = np.concatenate([np.zeros(24_000, np.int16), speech_like(3, 24_000)])
    told = VoiceDetector().listen(narrow(pcm))
    on_the_telephone = VoiceDetector().listen(mulaw.decode(mulaw.encode(pcm[::3])))
    assert np.mean(np.array(told) == np.array(on_the_telephone)) > 0.97
    assert sum(told) > 100


# On its way.


def test_silence_in_hd_costs_one_packet() -> None:
    uplink = make_uplink("native", 1, HD)
    pages = [page for _ in range(40) for page in uplink.feed(HD.silent_frame * 4)]
    assert len(pages) == uplink.packets == 160
    assert uplink._silent_packet is not None


def test_callers_audio_in_hd_is_filled_and_gated_in_hd() -> None:
    audio = CallerAudio(VoiceDetector(), None, 1000, 200, HD)
    audio.settle(0.0, 0.0)
    said = HD.encode(wide_speech(0.4))
    size = HD.frame_bytes
    for number in range(20):
        if number not in (4, 5, 6, 7):
            audio.receive(number * 20, said[number * size : (number + 1) * size])
    steps = [step for _ in range(5) if (step := audio.take()) is not None]
    assert {len(step) for step in steps} == {4 * size}
    heard = b"".join(steps)
    assert audio.time.filled == 4
    assert heard == said[: 4 * size] + HD.silent_frame * 4 + said[8 * size :]
    audio.fill()
    assert audio.take() == HD.silent_frame * 4


def test_noise_in_hd_is_silenced() -> None:
    audio = CallerAudio(VoiceDetector(), NoiseGate(), 1000, 200, HD)
    audio.settle(0.0, 0.0)
    noise = np.random.default_rng(1).normal(0, 60, 480 * 100).astype(np.int16)
    steps = []
    for number in range(100):
        frame = HD.encode(noise[number * 480 : (number + 1) * 480])
        audio.receive(number * 20, frame)
        steps += [step for step in [audio.take()] if step is not None]
    assert audio.gated >= 92  # at first it takes noise for a voice
    assert set(steps[2:]) == {HD.silent_frame * 4}


def test_playout_in_hd_leaves_out_whole_frames() -> None:
    playout = Playout(200, 100, audio_format=HD)
    loud = HD.encode(np.full(480, 5000, np.int16))
    assert playout.add(loud * 8 + HD.silent_frame * 8, 0.0) == [True] * 8 + [False] * 8
    assert playout.counts.dropped == 6
    media = playout.take(0.0)
    assert media == loud * 2 + HD.silent_frame * 2


# What callers hear without a model.


@pytest.mark.parametrize("country", ["us", "gb", "jp"])
def test_the_ringing_tone_is_the_same_in_both(country: str) -> None:
    on_the_telephone = mulaw.decode(ringback(country)).astype(float)
    in_hd = HD.decode(ringback(country, HD)).astype(float)
    assert len(in_hd) == 3 * len(on_the_telephone)
    assert np.corrcoef(in_hd[::3], on_the_telephone)[0, 1] > 0.999
    assert np.abs(in_hd).max() == pytest.approx(np.abs(on_the_telephone).max(), rel=0.05)


def test_the_chime_is_the_same_in_both() -> None:
    (here, pause), (there, _) = recovery_chime(HD), recovery_chime()
    assert len(pause) == 80 * HD.frame_bytes
    assert np.corrcoef(HD.decode(here)[::3], mulaw.decode(there))[0, 1] > 0.999


def test_a_waiting_sound_of_ones_own_keeps_its_band(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    said = wide_speech(1.01)
    write_wav(path, HD.encode(said), audio_format=HD)
    sounds = waiting_sounds(path)
    assert set(sounds) == {TELEPHONE, HD}
    assert [len(sound) % known.frame_bytes for known, sound in sounds.items()] == [0, 0]
    assert HD.decode(sounds[HD])[: len(said)].tolist() == said.tolist()
    assert sounds[HD] == HD.whole_frames(read_media(path, HD))
    assert waiting_sounds(None) == {}
    with pytest.raises(AudioError):
        waiting_sounds(path.with_name("other.wav"))
