"""Sound files in and out: kinds, rates, channels, lengths."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.files import read_as_mulaw, write_wav
from personaplex_bridge.audio.mulaw import SILENCE
from personaplex_bridge.errors import AudioError
from tests.sound import find, speech_like


def tone(
    hz: float, seconds: float, rate_hz: int, amplitude: float = 0.25
) -> npt.NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * hz * np.arange(round(seconds * rate_hz)) / rate_hz)


def phone_speech(samples: int) -> bytes:
    """Mu-law without negative zeros, which no 16-bit file keeps."""
    return mulaw.encode(speech_like(samples / 8000, 8000)).replace(b"\x7f", SILENCE)


def amplitude_at(hz: float, sound: bytes) -> float:
    """Of the sine at `hz` in mu-law, 1.0 being full scale."""
    pcm = mulaw.decode(sound) / 32768
    turning = np.exp(-2j * np.pi * hz * np.arange(len(pcm)) / mulaw.SAMPLE_RATE_HZ)
    return float(2 * abs(pcm @ turning) / len(pcm))


@pytest.mark.parametrize(
    ("name", "rate_hz"),
    [("a.wav", 8000), ("a.wav", 44_100), ("a.flac", 16_000), ("a.ogg", 48_000), ("a.mp3", 22_050)],
)
def test_any_kind_and_rate(tmp_path: Path, name: str, rate_hz: int) -> None:
    path = tmp_path / name
    said = speech_like(1.0, 8000)
    soundfile.write(path, soxr.resample(said / 32768, 8000, rate_hz, "VHQ"), rate_hz)
    heard = mulaw.decode(read_as_mulaw(path))
    assert len(heard) == len(said)
    delay, alike = find(said, heard, 10)
    assert delay == 0
    assert alike > 0.99


def test_stereo_at_44100_hz_is_mixed_and_resampled(tmp_path: Path) -> None:
    path = tmp_path / "stereo.wav"
    left, right = tone(500, 12.34, 44_100), tone(1200, 12.34, 44_100)
    soundfile.write(path, np.stack([left, right], axis=1), 44_100)
    heard = read_as_mulaw(path)
    assert len(heard) == 98_720
    # Each channel at half its loudness, and over a block's end as if it weren't there.
    for part in (heard[8000:16_000], heard[76_000:84_000]):
        assert amplitude_at(500, part) == pytest.approx(0.125, rel=0.01)
        assert amplitude_at(1200, part) == pytest.approx(0.125, rel=0.01)
    assert amplitude_at(800, heard[76_000:84_000]) < 0.002  # mu-law's own noise


def test_what_a_phone_cannot_carry_is_filtered_out(tmp_path: Path) -> None:
    path = tmp_path / "high.wav"
    soundfile.write(path, tone(5000, 1.0, 48_000), 48_000)
    assert amplitude_at(3000, read_as_mulaw(path)) < 0.0005  # where it would alias to


def test_too_loud_is_clipped_not_wrapped(tmp_path: Path) -> None:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.full(8000, 1.5), 8000, subtype="FLOAT")
    assert mulaw.decode(read_as_mulaw(path)).min() > 0


@pytest.mark.parametrize("samples", [159, 160, 8000, 100_000])
def test_written_and_read_again_nothing_changes(tmp_path: Path, samples: int) -> None:
    path = tmp_path / "same.wav"
    sound = phone_speech(samples)
    write_wav(path, sound)
    assert read_as_mulaw(path) == sound


def test_channels_of_a_written_file(tmp_path: Path) -> None:
    path = tmp_path / "two.wav"
    left, right = phone_speech(4000), phone_speech(2400)
    write_wav(path, left, right)
    frames, rate_hz = soundfile.read(path, dtype="int16")
    assert rate_hz == 8000
    assert mulaw.encode(frames[:, 0].copy()) == left
    assert mulaw.encode(frames[:, 1].copy()) == right + SILENCE * 1600


def test_repeated(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    soundfile.write(path, speech_like(0.5, 16_000), 16_000)
    assert read_as_mulaw(path, 3) == read_as_mulaw(path) * 3


@pytest.mark.parametrize("repeat", [1, 2])
def test_too_long(tmp_path: Path, repeat: int) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros(16_000 // repeat, np.int16), 8000)
    assert len(read_as_mulaw(path, repeat, max_seconds=2)) == 16_000
    with pytest.raises(AudioError, match=r"long\.wav: 2 s of sound; allowed: .* up to 1\.9 s"):
        read_as_mulaw(path, repeat, max_seconds=1.9)


def test_a_long_file_is_not_held_at_its_own_rate(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros((60 * 48_000, 2), np.int16), 48_000)
    tracemalloc.start()
    try:
        read_as_mulaw(path)
        _, most_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most_bytes < 30_000_000  # as doubles it would be 46 MB


@pytest.mark.parametrize("content", [None, b"", b"no sound at all" * 100])
def test_what_is_no_sound_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "silly.wav"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(AudioError, match=r"can't read .*silly\.wav as a sound file"):
        read_as_mulaw(path)


def test_no_sound_in_it(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.empty(0, np.int16), 8000)
    with pytest.raises(AudioError, match=r"empty\.wav: 0 s of sound"):
        read_as_mulaw(path)
