"""Hold sound: pieces that begin and end softly, level, and an operator's own sound."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.hold import LEVEL_DBFS, PIECE_S, HoldSound, cut, hold_sound, music
from personaplex_bridge.audio.mulaw import SAMPLE_RATE_HZ, SILENCE
from personaplex_bridge.errors import AudioError

QUIET = 40
"""Of 32,768: what a click would exceed."""


def samples(sound: HoldSound, number: int) -> npt.NDArray[np.float64]:
    return mulaw.decode(sound.mulaw(number)).astype(np.float64)


def dbfs(pcm: npt.NDArray[np.float64]) -> float:
    return float(20 * np.log10(np.sqrt(np.square(pcm).mean()) / 32768))


def test_the_music_has_pieces_of_five_seconds() -> None:
    assert len(music()) == 8
    assert {len(music().mulaw(number)) for number in range(8)} == {int(PIECE_S * SAMPLE_RATE_HZ)}


def test_the_music_is_soft() -> None:
    whole = np.concatenate([samples(music(), number) for number in range(len(music()))])
    assert dbfs(whole) == pytest.approx(LEVEL_DBFS, abs=0.1)
    assert np.abs(whole).max() < 32768 * 10 ** (-6 / 20)


@pytest.mark.parametrize("number", range(8))
def test_no_click_where_a_piece_begins_or_ends(number: int) -> None:
    """Whether the next follows at once or after a pause; and it ends in a rest."""
    piece = samples(music(), number)
    assert np.abs(piece[:4]).max() < QUIET
    assert np.abs(piece[-4:]).max() < QUIET
    assert dbfs(piece[-2000:]) < dbfs(piece) - 8
    # A click anywhere is energy above all notes and overtones.
    for begin in range(0, len(piece) - 800, 400):
        window = piece[begin : begin + 800]
        spectrum = np.square(np.abs(np.fft.rfft(window * np.blackman(800))))
        assert spectrum[280:].sum() < 0.01 * spectrum.sum() + 1e6


def test_a_piece_as_a_wav_file() -> None:
    pcm, rate_hz = soundfile.read(io.BytesIO(music().wav(3)), dtype="int16")
    assert rate_hz == SAMPLE_RATE_HZ
    again = mulaw.decode(mulaw.encode(pcm))
    assert np.array_equal(again, samples(music(), 3)), "Twilio makes the same mu-law of it"
    assert soundfile.info(io.BytesIO(music().wav(3))).subtype == "PCM_16"


@given(st.integers(1, 60 * SAMPLE_RATE_HZ))
def test_nothing_of_a_sound_is_lost_and_pieces_are_short(length: int) -> None:
    pieces = cut(b"\x40" * length)
    whole = sum(map(len, pieces))
    assert whole >= length
    assert whole % length == 0, "only whole repetitions"
    assert all(2.5 <= len(piece) / SAMPLE_RATE_HZ <= 8.5 for piece in pieces)


def test_a_sound_is_cut_in_its_pauses() -> None:
    """Loud for 4.8 s, then a pause of 0.2 s, and so on: the pauses are found."""
    beat = b"\x10" * int(4.8 * SAMPLE_RATE_HZ) + SILENCE * int(0.2 * SAMPLE_RATE_HZ)
    pieces = cut(SILENCE * 1200 + beat * 4)
    assert len(pieces) == 4
    for piece in pieces:
        assert piece.count(b"\x10") > 4.5 * SAMPLE_RATE_HZ


def test_a_file_of_the_operator(tmp_path: Path) -> None:
    path = tmp_path / "hold.flac"
    tone = 0.3 * np.sin(2 * np.pi * 700 * np.arange(12 * 44_100) / 44_100)
    soundfile.write(path, np.stack([tone, tone], axis=1), 44_100)
    sound = hold_sound(path)
    assert len(sound) == 2
    for number in range(2):
        piece = samples(sound, number)
        assert np.abs(piece[:2]).max() < QUIET
        assert np.abs(piece[-2:]).max() < QUIET
        assert dbfs(piece) == pytest.approx(20 * np.log10(0.3 / np.sqrt(2)), abs=0.3)


def test_a_short_file_is_repeated(tmp_path: Path) -> None:
    path = tmp_path / "beep.wav"
    soundfile.write(path, np.full(3, 0.5), SAMPLE_RATE_HZ)
    sound = hold_sound(path)
    assert (len(sound), len(sound.mulaw(0))) == (1, 20_001)


def test_a_file_may_last_ten_minutes(tmp_path: Path) -> None:
    path = tmp_path / "long.flac"
    soundfile.write(path, np.zeros(600 * SAMPLE_RATE_HZ, np.int16), SAMPLE_RATE_HZ)
    assert len(hold_sound(path)) == 120
    soundfile.write(path, np.zeros(601 * SAMPLE_RATE_HZ, np.int16), SAMPLE_RATE_HZ)
    with pytest.raises(AudioError, match=r"long\.flac: 601 s of sound; .* up to 600 s"):
        hold_sound(path)


def test_a_file_that_is_no_sound_is_named(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("la la la", "utf-8")
    with pytest.raises(AudioError, match=r"can't read .*notes\.txt as a sound file"):
        hold_sound(path)


def test_the_music_needs_no_soundfile() -> None:
    program = (
        "import sys; from personaplex_bridge.audio.hold import hold_sound;"
        "hold_sound(None); sys.exit('soundfile' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
