"""The gate: rules on told voices, then on sound."""

import numpy as np
import pytest

from personaplex_bridge.audio.gate import HANGOVER_FRAMES, NoiseGate
from personaplex_bridge.audio.voice import Mode, VoiceDetector
from tests.audio.noisy import (
    FIRST_WORD_S,
    FRAME_PIECES,
    PIECE,
    RATE_HZ,
    WORDS_S,
    Sound,
    heard,
    shipped_speech,
    silence,
    white,
)

MODES = pytest.mark.parametrize("mode", ["auto", "strict"])
NOTHING = [False] * FRAME_PIECES
VOICE = [True] * FRAME_PIECES


def opened(*sounds: Sound, mode: Mode = "auto") -> list[bool]:
    detector, gate = VoiceDetector(mode), NoiseGate()
    told = [detector.feed(piece) for piece in heard(*sounds)]
    return [
        gate.opens(told[begin : begin + FRAME_PIECES])
        for begin in range(0, len(told) - FRAME_PIECES + 1, FRAME_PIECES)
    ]


def share(told: list[bool], begin_s: float, end_s: float) -> float:
    """Of the frames that lie within."""
    within = told[-(-round(begin_s * 1000) // 80) : round(end_s * 1000) // 80]
    return sum(within) / len(within)


def noisy(snr_db: float) -> Sound:
    speech = shipped_speech()
    return speech + white(len(speech) / RATE_HZ, -26 - snr_db, seed=7)


def test_it_stays_open_after_a_word_and_closes() -> None:
    gate = NoiseGate()
    assert gate.opens(VOICE)
    after = [gate.opens(NOTHING) for _ in range(10)]
    kept = HANGOVER_FRAMES
    assert after == [True] * kept + [False] * (10 - kept)


def test_every_voice_within_a_word_begins_its_hangover_anew() -> None:
    gate = NoiseGate()
    gate.opens(VOICE)
    for _ in range(5):
        told = [gate.opens(NOTHING) for _ in range(HANGOVER_FRAMES)]
        assert all(told)
        assert gate.opens([False, True, False, False])


def test_a_blip_keeps_it_open_for_less_than_a_word() -> None:
    gate = NoiseGate()
    assert gate.opens([False, False, True, False])
    assert sum(gate.opens(NOTHING) for _ in range(10)) == 0


@MODES
def test_clean_words_pass_and_pauses_do_not(mode: Mode) -> None:
    told = opened(shipped_speech(), mode=mode)
    for words in WORDS_S:
        assert share(told, *words) == 1
    assert share(told, 4.5, 8.0) == 0


@MODES
@pytest.mark.parametrize("snr_db", [20, 10])
def test_white_noise_is_silenced_and_the_words_in_it_are_not(mode: Mode, snr_db: float) -> None:
    told = opened(white(2.4, -26 - snr_db), noisy(snr_db), mode=mode)[30:]
    for words in WORDS_S:
        assert share(told, *words) > (0.97 if mode == "auto" else 0.9)
    assert share(told, 4.7, 8.0) < 0.1
    assert share(told, 13.0, 18.8) < 0.1


@pytest.mark.parametrize("shift", range(0, 640, 80))
def test_the_first_80_ms_pass_wherever_in_a_frame_they_begin(shift: int) -> None:
    """Of 80 ms no more than 20 may be missing: a word's softest beginning."""
    begin, lead = round(FIRST_WORD_S * RATE_HZ), 4 * RATE_HZ + shift
    told = opened(white(lead / RATE_HZ, -46), noisy(20)[begin:][: 2 * RATE_HZ])
    passed = np.repeat(told, FRAME_PIECES * PIECE)[lead:][: FRAME_PIECES * PIECE]
    assert passed.sum() >= 3 * PIECE


def test_silence_stays_closed() -> None:
    assert not any(opened(silence(5)))


def test_the_first_words_pass_though_nothing_is_known_of_the_noise() -> None:
    begin, end = (round(at * RATE_HZ) for at in WORDS_S[1])
    assert share(opened(noisy(5)[begin:end]), 0, 3) > 0.97


def test_two_gates_know_nothing_of_each_other() -> None:
    one, other = NoiseGate(), NoiseGate()
    assert one.opens(VOICE)
    assert not other.opens(NOTHING)
    assert one.opens(NOTHING)
