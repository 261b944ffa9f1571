"""Ringing tones: frequencies, cadence, level, no clicks; and an operator's own sound."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.mulaw import FRAME_BYTES, SAMPLE_RATE_HZ, SILENCE
from personaplex_bridge.audio.ringback import (
    CADENCES,
    LEVEL_DBM0,
    MODULATION_DEPTH,
    RAMP_MS,
    ringback,
    waiting_sound,
)
from personaplex_bridge.config import RINGBACK_COUNTRIES, Settings
from personaplex_bridge.errors import AudioError

SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000
SINE_3_17_DBM0_RMS = 8159 * 4 / np.sqrt(2)
"""G.711, table 2: the sine of 0 dBm0 is 3.17 dB below the end of the scale."""

every_country = pytest.mark.parametrize("country", CADENCES)


def first_burst(country: str) -> npt.NDArray[np.float64]:
    """The first tone's samples, between its ramps."""
    on_ms, _ = CADENCES[country].on_off_ms[0]
    pcm = mulaw.decode(ringback(country)).astype(np.float64)
    return pcm[RAMP_MS * SAMPLES_PER_MS : (on_ms - RAMP_MS) * SAMPLES_PER_MS]


def loudest_hz(tone: npt.NDArray[np.float64], count: int) -> list[float]:
    """The strongest frequencies of a sound, strongest first, to 0.1 Hz."""
    spectrum = np.abs(np.fft.rfft(tone * np.blackman(len(tone)), SAMPLE_RATE_HZ * 10))
    peaks = np.flatnonzero((spectrum[1:-1] > spectrum[:-2]) & (spectrum[1:-1] >= spectrum[2:])) + 1
    return [float(peak) / 10 for peak in peaks[np.argsort(-spectrum[peaks])][:count]]


def test_config_knows_the_same_countries() -> None:
    assert tuple(CADENCES) == RINGBACK_COUNTRIES
    assert sorted(CADENCES) == list(CADENCES)


@pytest.mark.parametrize(
    ("country", "frequencies_hz", "on_off_ms"),
    [
        ("us", {440, 480}, [2000, 4000]),
        ("gb", {400, 450}, [400, 200, 400, 2000]),
        ("uk", {400, 450}, [400, 200, 400, 2000]),
        ("de", {425}, [1000, 4000]),
        ("fr", {440}, [1500, 3500]),
        ("jp", {384, 400, 416}, [1000, 2000]),
        ("hk", {440, 480}, [400, 200, 400, 3000]),
    ],
)
def test_some_countries_in_plain_numbers(
    country: str, frequencies_hz: set[float], on_off_ms: list[int]
) -> None:
    sound = ringback(country)
    assert len(sound) == sum(on_off_ms) * SAMPLES_PER_MS
    heard = loudest_hz(first_burst(country), len(frequencies_hz))
    assert sorted(heard) == pytest.approx(sorted(frequencies_hz), abs=1)


@every_country
def test_frequencies(country: str) -> None:
    cadence = CADENCES[country]
    expected = set(cadence.frequencies_hz)
    if cadence.modulation_hz:
        (carrier_hz,) = cadence.frequencies_hz
        expected |= {carrier_hz - cadence.modulation_hz, carrier_hz + cadence.modulation_hz}
    heard = loudest_hz(first_burst(country), len(expected))
    assert sorted(heard) == pytest.approx(sorted(expected), abs=1)


@pytest.mark.parametrize("country", [name for name, one in CADENCES.items() if one.modulation_hz])
def test_modulated_tones_swell_and_fade(country: str) -> None:
    cadence = CADENCES[country]
    tone = first_burst(country)[: SAMPLE_RATE_HZ // cadence.modulation_hz * 4]
    size = SAMPLE_RATE_HZ // cadence.frequencies_hz[0]
    periods = tone[: len(tone) // size * size].reshape(-1, size)
    loudness = np.abs(periods).max(axis=1)
    assert loudness.min() / loudness.max() == pytest.approx(
        (1 - MODULATION_DEPTH) / (1 + MODULATION_DEPTH), abs=0.08
    )


@every_country
def test_cadence(country: str) -> None:
    sound = ringback(country)
    assert len(sound) % FRAME_BYTES == 0
    begin = 0
    for on_ms, off_ms in CADENCES[country].on_off_ms:
        end = begin + on_ms * SAMPLES_PER_MS
        tone = mulaw.decode(sound[begin:end]).astype(np.float64)
        windows = tone.reshape(-1, 50 * SAMPLES_PER_MS)  # no modulation is slower
        assert np.sqrt((windows**2).mean(axis=1)).min() > 500
        pause = sound[end : end + off_ms * SAMPLES_PER_MS]
        assert pause == SILENCE * (off_ms * SAMPLES_PER_MS)
        begin = end + off_ms * SAMPLES_PER_MS
    assert begin == len(sound)


@every_country
def test_level(country: str) -> None:
    rms = np.sqrt((first_burst(country) ** 2).mean())
    level_dbm0 = 3.17 + 20 * np.log10(rms / SINE_3_17_DBM0_RMS)
    assert level_dbm0 == pytest.approx(LEVEL_DBM0, abs=0.3)


@every_country
def test_no_click_at_either_end_of_a_tone_nor_in_the_loop(country: str) -> None:
    """A click is energy far from the tone. 80 samples of each edge, all else being steady."""
    loop = mulaw.decode(ringback(country) * 2).astype(np.float64)
    edges, at = [0], 0
    for on_ms, off_ms in CADENCES[country].on_off_ms * 2:
        edges += [at + on_ms * SAMPLES_PER_MS, at + (on_ms + off_ms) * SAMPLES_PER_MS]
        at = edges[-1]
    steady = first_burst(country)[:800]
    for edge in edges[1:-1]:
        around = loop[edge - 400 : edge + 400]
        assert _high_energy(around) < 2 * _high_energy(steady) + 1
        assert np.abs(loop[edge - 2 : edge + 2]).max() < 40


def _high_energy(samples: npt.NDArray[np.float64]) -> float:
    """Above 1,500 Hz."""
    spectrum = np.abs(np.fft.rfft(samples * np.blackman(len(samples)))) ** 2
    return float(spectrum[len(samples) * 1500 // SAMPLE_RATE_HZ :].sum())


@pytest.mark.parametrize("country", ["xx", "US", "", "off"])
def test_an_unknown_country_is_named(country: str) -> None:
    with pytest.raises(AudioError, match=f"no ringing tone of '{country}' is known, only at, au,"):
        ringback(country)


def test_the_waiting_sound_of_a_setting() -> None:
    assert waiting_sound(None) is None
    assert waiting_sound("gb") == ringback("gb")
    assert waiting_sound(Settings().ringback) == ringback("us")


def test_a_file_is_resampled_and_filled_up_to_whole_frames(tmp_path: Path) -> None:
    path = tmp_path / "waiting.flac"
    music = 0.3 * np.sin(2 * np.pi * 700 * np.arange(44_100) / 44_100)
    soundfile.write(path, np.stack([music, music], axis=1)[:43_900], 44_100)
    sound = waiting_sound(path)
    assert sound is not None
    assert len(sound) == 8000  # 7,964 of sound
    assert sound.endswith(SILENCE * 36)
    assert loudest_hz(mulaw.decode(sound)[:7900].astype(np.float64), 1) == pytest.approx([700], 1)


def test_a_file_of_a_few_samples_gives_one_frame(tmp_path: Path) -> None:
    path = tmp_path / "tick.wav"
    soundfile.write(path, np.full(3, 0.5), 8000)
    sound = waiting_sound(path)
    assert sound is not None
    assert len(sound) == FRAME_BYTES


def test_a_file_may_last_ten_minutes(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(600 * 8000, np.int16), 8000)
    assert waiting_sound(path) == SILENCE * (600 * 8000)
    soundfile.write(path, np.zeros(601 * 8000, np.int16), 8000)
    with pytest.raises(AudioError, match=r"long\.flac: 601 s of sound; .* up to 600 s"):
        waiting_sound(path)


def test_a_file_that_is_no_sound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("la la la", "utf-8")
    with pytest.raises(AudioError, match=r"can't read .*notes\.txt as a sound file"):
        waiting_sound(path)


def test_a_ringing_tone_needs_no_soundfile() -> None:
    """It takes time to import, and most bridges ring."""
    program = (
        "import sys; import personaplex_bridge.serve;"
        "from personaplex_bridge.audio.ringback import waiting_sound;"
        "waiting_sound('us'); sys.exit('soundfile' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
