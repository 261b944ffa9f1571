"""How long after the caller's last word the model's first is heard."""

import pytest

from personaplex_bridge.audio.turns import MAX_TURNS, PAUSE_S, Turns

FRAME_S = 0.02


class Talk:
    """Both talkers in frames of 20 ms."""

    def __init__(self) -> None:
        self.turns = Turns()

    def caller(self, begin_s: float, end_s: float) -> None:
        """The caller talks in this time."""
        for at_s in _frames(begin_s, end_s):
            self.turns.caller(True, at_s)

    def model(self, begin_s: float, end_s: float) -> None:
        for at_s in _frames(begin_s, end_s):
            self.turns.model(True, at_s)

    def silence(self, begin_s: float, end_s: float) -> None:
        for at_s in _frames(begin_s, end_s):
            self.turns.caller(False, at_s)
            self.turns.model(False, at_s)

    @property
    def delays_ms(self) -> list[int]:
        return [round(delay_s * 1000) for delay_s in self.turns.delays_s]


def _frames(begin_s: float, end_s: float) -> list[float]:
    """The ends of the frames of a time."""
    return [
        number * FRAME_S
        for number in range(round(begin_s / FRAME_S) + 1, round(end_s / FRAME_S) + 1)
    ]


def test_a_delay_is_from_the_callers_end_to_the_models_beginning() -> None:
    talk = Talk()
    talk.caller(1.0, 2.0)
    talk.silence(2.0, 2.5)
    talk.model(2.5, 4.0)
    assert talk.delays_ms == [500]


def test_each_turn_has_its_own_delay() -> None:
    talk = Talk()
    for begin_s, delay_s in ((1.0, 0.2), (6.0, 1.0), (11.0, 0.06)):
        talk.caller(begin_s, begin_s + 1.0)
        talk.model(begin_s + 1.0 + delay_s, begin_s + 3.0)
    assert talk.delays_ms == [200, 1000, 60]


def test_pauses_within_a_turn_do_not_end_it() -> None:
    talk = Talk()
    talk.caller(1.0, 1.5)
    talk.caller(1.5 + PAUSE_S - FRAME_S, 2.5)
    talk.model(3.0, 3.5)
    talk.model(3.7, 4.5)
    assert talk.delays_ms == [500]


def test_a_turn_that_nobody_answers_has_no_delay() -> None:
    talk = Talk()
    talk.caller(1.0, 2.0)
    talk.caller(4.0, 5.0)
    talk.model(5.5, 6.0)
    talk.model(8.0, 9.0)
    assert talk.delays_ms == [500]


def test_a_model_that_begins_by_itself_answers_nobody() -> None:
    talk = Talk()
    talk.model(1.0, 2.0)
    assert talk.delays_ms == []


def test_a_model_that_talks_while_the_caller_does_answers_nothing() -> None:
    talk = Talk()
    talk.caller(1.0, 2.0)
    talk.model(1.5, 3.0)
    assert talk.delays_ms == []


@pytest.mark.parametrize("click_s", [0.02, 0.08])
def test_a_click_is_no_speech(click_s: float) -> None:
    talk = Talk()
    talk.caller(1.0, 1.0 + click_s)
    talk.model(2.0, 3.0)
    assert talk.delays_ms == []
    talk.caller(5.0, 6.0)
    talk.model(6.1, 6.1 + click_s)
    talk.model(7.0, 8.0)
    assert talk.delays_ms == [1000]


def test_delays_are_bounded() -> None:
    talk = Talk()
    for number in range(MAX_TURNS + 5):
        talk.caller(number * 3.0, number * 3.0 + 0.2)
        talk.model(number * 3.0 + 1.0, number * 3.0 + 1.2)
    assert len(talk.delays_ms) == MAX_TURNS
    assert set(talk.delays_ms) == {800}
