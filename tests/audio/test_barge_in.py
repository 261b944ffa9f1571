"""An interruption, or only an "uh-huh"?"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.barge_in import (
    CERTAIN_MS,
    OVER_MS,
    QUEUED_MS,
    SUSPECTED_MS,
    BargeIn,
    Verdict,
)

PLAY, HOLD, CLEAR = Verdict.PLAY, Verdict.HOLD, Verdict.CLEAR
MUCH, LITTLE = QUEUED_MS + 1.0, float(QUEUED_MS)


def heard(barge_in: BargeIn, pattern: str, waiting_ms: float = MUCH) -> list[Verdict]:
    """`v` is a frame with voice, `.` one without."""
    return [barge_in.hear(kind == "v", lambda: waiting_ms) for kind in pattern]


def test_audio_is_held_at_the_onset_and_cleared_when_it_is_certain() -> None:
    verdicts = heard(BargeIn(), "v" * 40)
    onset, certain = SUSPECTED_MS // 20 - 1, CERTAIN_MS // 20 - 1
    assert verdicts[:onset] == [PLAY] * onset
    assert verdicts[onset:certain] == [HOLD] * (certain - onset)
    assert verdicts[certain] is CLEAR
    assert verdicts[certain + 1 :] == [PLAY] * (40 - certain - 1)


def test_one_loud_frame_is_nothing() -> None:
    assert set(heard(BargeIn(), "v...." * 20)) == {PLAY}


def test_a_backchannel_lets_audio_play_on() -> None:
    verdicts = heard(BargeIn(), "v" * 15 + "." * 10)
    assert verdicts == [PLAY] + [HOLD] * (14 + OVER_MS // 20 - 1) + [PLAY] * 7


def test_ten_backchannels_of_300_ms_clear_nothing() -> None:
    verdicts = heard(BargeIn(), ("." * 20 + "v" * 15) * 10 + "." * 20)
    assert CLEAR not in verdicts
    assert verdicts[-10:] == [PLAY] * 10


def test_short_pauses_within_words_do_not_start_anew() -> None:
    assert CLEAR in heard(BargeIn(), "vvvv..." * 8)


def test_nothing_is_held_while_little_waits() -> None:
    assert set(heard(BargeIn(), "v" * 50, LITTLE)) == {PLAY}


def test_what_waits_is_asked_for_when_voice_begins() -> None:
    barge_in = BargeIn()
    assert heard(barge_in, "v", LITTLE) == [PLAY]
    assert set(heard(barge_in, "v" * 40, MUCH)) == {PLAY}, "the model began while they spoke"
    heard(barge_in, "....")
    assert CLEAR in heard(barge_in, "v" * 40, MUCH)


def test_what_waits_is_not_asked_for_at_other_times() -> None:
    asked: list[str] = []

    def ask() -> float:
        asked.append(kind)
        return MUCH

    barge_in = BargeIn()
    for kind in "....vvvv..vv....vv":
        barge_in.hear(kind == "v", ask)
    assert len(asked) == 2


@pytest.mark.parametrize("pause", [OVER_MS // 20 - 1, OVER_MS // 20])
def test_an_interruption_clears_once(pause: int) -> None:
    verdicts = heard(BargeIn(), "v" * 30 + "." * pause + "v" * 30)
    assert verdicts.count(CLEAR) == (2 if pause * 20 >= OVER_MS else 1)


@given(st.text("v.", max_size=200), st.sampled_from([MUCH, LITTLE]))
def test_holding_ends_with_the_voice(pattern: str, waiting_ms: float) -> None:
    """Whatever came before: 80 ms without voice, and audio plays."""
    barge_in = BargeIn()
    heard(barge_in, pattern, waiting_ms)
    assert heard(barge_in, "....", waiting_ms)[-1] is PLAY


@given(st.lists(st.integers(1, 12), max_size=30))
def test_voice_of_less_than_certain_length_never_clears(lengths: list[int]) -> None:
    pattern = "".join("v" * number + "...." for number in lengths)
    assert CLEAR not in heard(BargeIn(), pattern)


def test_a_caller_who_is_not_heard_any_more_has_said_what_they_said() -> None:
    barge_in = BargeIn()
    assert heard(barge_in, "vvv")[-1] is HOLD
    barge_in.end()
    assert heard(barge_in, "v") == [PLAY]
    assert CLEAR not in heard(barge_in, "v" * 10)
