"""The voice detector on the shipped (synthetic) speech, on noise, and on what is neither."""

import numpy as np
import pytest

from personaplex_bridge.audio.voice import VoiceDetector, levels_db
from tests.audio.noisy import (
    FIRST_WORD_S,
    RATE_HZ,
    WORDS_S,
    Sound,
    heard,
    pieces,
    shipped_speech,
    silence,
    tones,
    white,
)


def voiced(*sounds: Sound) -> list[bool]:
    detector = VoiceDetector()
    return [detector.feed(piece) for piece in heard(*sounds)]


def share(told: list[bool]) -> float:
    return sum(told) / len(told)


def restless(seconds: float, level_dbfs: float, seed: int = 0) -> Sound:
    """Noise whose level changes by some 2.5 dB every 60 ms, as among talkers."""
    random = np.random.default_rng(seed)
    gains = 10 ** (random.normal(0, 2.5, -(-round(seconds * 1000) // 60)) / 20)
    noise = white(len(gains) * 0.06, level_dbfs, seed) * np.repeat(gains, 480)
    return noise[: round(seconds * RATE_HZ)]


def noisy_speech(snr_db: float, level_dbfs: float = -26.0) -> Sound:
    speech = shipped_speech(level_dbfs)
    return speech + white(len(speech) / RATE_HZ, level_dbfs - snr_db)


@pytest.mark.parametrize("level_dbfs", [-15, -26, -40])
def test_clean_words_are_a_voice_and_the_pause_between_is_not(level_dbfs: float) -> None:
    told = voiced(shipped_speech(level_dbfs))
    for words in WORDS_S:
        assert share(told[pieces(*words)]) > 0.85
    assert share(told[pieces(4.5, 8.0)]) == 0


@pytest.mark.parametrize("snr_db", [20, 10])
def test_words_in_white_noise(snr_db: float) -> None:
    told = voiced(white(3.0, -26 - snr_db, seed=1), noisy_speech(snr_db))[150:]
    for words in WORDS_S:
        assert share(told[pieces(*words)]) > 0.7
    assert share(told[pieces(4.5, 8.0)]) < 0.02


@pytest.mark.parametrize("seed", range(4))
def test_restless_noise_stays_none_while_the_caller_listens(seed: int) -> None:
    """What was let through by mistake must not make more pass, and that still more."""
    speech = shipped_speech()
    words = speech + restless(len(speech) / RATE_HZ, -36)
    told = voiced(restless(3, -36, seed), words, restless(60, -36, seed + 10))
    assert share(told[-1500:]) < 0.1


def test_words_in_restless_noise() -> None:
    speech = shipped_speech()
    told = voiced(restless(3.0, -38, seed=1), speech + restless(len(speech) / RATE_HZ, -38))[150:]
    for words in WORDS_S:
        assert share(told[pieces(*words)]) > 0.6
    assert share(told[pieces(4.5, 8.0)]) < 0.1


@pytest.mark.parametrize("seed", range(4))
def test_it_tells_a_word_within_40_ms(seed: int) -> None:
    speech = shipped_speech()[round(FIRST_WORD_S * RATE_HZ) :][:RATE_HZ]
    told = voiced(white(4.0, -46, seed), speech + white(1.0, -46, seed + 10))
    assert not any(told[100:200])
    assert any(told[200:202])


def test_at_the_beginning_of_a_call_words_are_kept_in_any_noise() -> None:
    begin, end = (round(at * RATE_HZ) for at in WORDS_S[1])
    told = voiced(noisy_speech(5)[begin:end])
    assert share(told[:50]) > 0.95


def test_noise_that_does_not_pause_is_learned_within_two_seconds() -> None:
    told = voiced(white(2.0, -60), white(6.0, -25, seed=1))
    assert share(told[100:150]) == 1
    assert share(told[200:]) < 0.02


@pytest.mark.parametrize(
    "sound",
    [
        silence(6),
        white(6, -30),
        tones(6, -30, 50, 150, 250),
        tones(6, -20, 440),
        tones(6, -20, 697, 1209),
        np.full(6 * RATE_HZ, 0.99),
    ],
    ids=["silence", "hiss", "hum", "dial tone", "a held key", "full scale"],
)
def test_nothing_steady_stays_a_voice(sound: Sound) -> None:
    assert share(voiced(silence(1), sound)[150:]) < 0.02


def test_after_any_of_them_words_are_heard_again() -> None:
    told = voiced(tones(6, -20, 440), shipped_speech())[300:]
    for words in WORDS_S:
        assert share(told[pieces(*words)]) > 0.85


def test_a_vowel_held_too_long_does_not_deafen_it() -> None:
    speech = shipped_speech()[round(FIRST_WORD_S * RATE_HZ) :][: 2 * RATE_HZ]
    told = voiced(white(3, -60), tones(3, -16, 150, 300, 450), white(0.4, -60, 1), speech)
    assert not any(told[250:300])
    assert share(told[321:341]) > 0.9


def test_a_key_pressed_stands_out() -> None:
    told = voiced(white(3, -60), tones(0.1, -15, 697, 1209), white(1, -60, 1))
    assert sum(told[150:155]) >= 4
    assert not any(told[:150])
    assert not any(told[162:])


def test_strict_wants_more_where_words_barely_stand_out() -> None:
    auto, strict = VoiceDetector("auto"), VoiceDetector("strict")
    told = [(auto.feed(piece), strict.feed(piece)) for piece in heard(noisy_speech(5))]
    assert sum(one for one, _ in told) >= sum(other for _, other in told) > 0


def test_two_calls_know_nothing_of_each_other() -> None:
    one, other = VoiceDetector(), VoiceDetector()
    speech, noise = heard(shipped_speech()), heard(white(30, -25))
    together = [(one.feed(a), other.feed(b)) for a, b in zip(speech, noise, strict=False)]
    assert [told for told, _ in together] == voiced(shipped_speech())[: len(together)]


@pytest.mark.parametrize("samples", [0, 80, 159, 161, 640])
def test_it_takes_20_ms_and_nothing_else(samples: int) -> None:
    with pytest.raises(ValueError, match=f"160 samples, not {samples}"):
        VoiceDetector().feed(np.zeros(samples, np.int16))


def test_levels() -> None:
    assert levels_db(np.zeros(160, np.int16))[0] == pytest.approx(-73.3, abs=0.1)
    assert levels_db(np.full(160, -32768, np.int16))[0] == pytest.approx(0, abs=0.01)
    assert levels_db(np.full(160, 3277, np.int16))[0] == pytest.approx(-20, abs=0.01)
