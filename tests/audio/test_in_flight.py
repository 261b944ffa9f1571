"""What the model has been sent and has not answered."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.in_flight import LOST_AFTER_S, WINDOW_MS, InFlight

STEP_MS = 80


def steps(flight: InFlight, number: int, now_s: float = 0.0) -> None:
    for _ in range(number):
        flight.sent(STEP_MS, now_s)


def test_a_model_that_answers_each_frame_is_not_behind() -> None:
    flight = InFlight()
    for number in range(20):
        assert flight.is_open(number * 0.08)
        flight.sent(STEP_MS, number * 0.08)
        flight.answered((number + 1) * STEP_MS, number * 0.08 + 0.04)
        assert flight.behind_ms == 0.0


def talk(flight: InFlight, delays_s: list[float]) -> list[int]:
    """A frame every 80 ms, each answered after its delay; at each answer, how far behind it was."""
    sent = [(0.08 * n, 0, n) for n in range(len(delays_s))]
    answered = [(0.08 * n + delay_s, 1, n + 1) for n, delay_s in enumerate(delays_s)]
    behind = []
    for at_s, is_answer, number in sorted(sent + answered):
        if is_answer:
            flight.answered(number * STEP_MS, at_s)
            behind.append(round(flight.behind_ms))
        else:
            flight.sent(STEP_MS, at_s)
    return behind


@pytest.mark.parametrize("way_s", [0.05, 0.159, 0.161, 0.4])
def test_a_long_way_is_usual(way_s: float) -> None:
    """And no lag, on whichever side of a frame's length it lies."""
    jitter = [0.01 * (number % 2) for number in range(50)]
    assert max(talk(InFlight(), [way_s + late_s for late_s in jitter])) <= 10


def test_lag_is_how_much_longer_an_answer_takes_than_the_quickest() -> None:
    assert talk(InFlight(), [0.04] * 3 + [0.1] * 4)[:-1] == [0, 0, 0, 60, 60, 60]


def test_it_is_no_more_than_what_is_under_way() -> None:
    assert talk(InFlight(), [0.04] * 3 + [0.3] * 6)[3:] == [240, 240, 240, 160, 80, 0]


def test_what_was_left_out_for_a_lag_that_stays_counts_no_more() -> None:
    """The way became longer: leaving out more pauses would not cure that."""
    flight = InFlight()
    for number in range(20):
        now_s, took_s = number * 0.08, 0.04 if number < 3 else 0.07
        flight.sent(STEP_MS / 2, now_s)
        flight.sent(STEP_MS / 2, now_s + 0.01)
        flight.answered((number + 0.5) * STEP_MS, now_s + took_s)
        behind_ms = flight.behind_ms
        if number == 4:
            flight.forgive(20)
            assert flight.behind_ms == pytest.approx(behind_ms - 20)
            flight.forgive(80)
        if number > 4:
            assert behind_ms == pytest.approx(0)
        flight.answered((number + 1) * STEP_MS, now_s + took_s + 0.01)


def test_a_stalled_model_is_sent_no_more_than_a_window() -> None:
    flight = InFlight()
    sent_ms = 0
    while flight.is_open(0.5):
        flight.sent(STEP_MS, 0.5)
        sent_ms += STEP_MS
    assert sent_ms == WINDOW_MS


def test_the_window_is_beyond_what_is_usual() -> None:
    """A network with a round trip of half a second carries on."""
    flight, now_s = InFlight(), 0.0
    for number in range(100):
        now_s = number * 0.08
        if number >= 6:
            flight.answered((number - 5) * STEP_MS, now_s)
        assert flight.is_open(now_s)
        flight.sent(STEP_MS, now_s)
    assert flight.behind_ms == 0.0


def test_answers_open_the_window_again() -> None:
    flight = InFlight()
    flight.sent(STEP_MS, 0.0)
    flight.answered(STEP_MS, 0.1)
    steps(flight, 6, 0.2)
    assert not flight.is_open(1.0)
    flight.answered(2 * STEP_MS, 1.0)
    assert flight.is_open(1.0)
    assert flight.behind_ms == pytest.approx(5 * STEP_MS)


def test_what_is_never_answered_does_not_close_the_window_for_good() -> None:
    flight = InFlight()
    steps(flight, 6, 1.0)
    assert not flight.is_open(1.0 + LOST_AFTER_S - 0.01)
    assert flight.is_open(1.0 + LOST_AFTER_S)
    steps(flight, 6, 3.0)
    assert not flight.is_open(3.0)
    assert flight.is_open(1.0 + 2 * LOST_AFTER_S)
    flight.answered(STEP_MS, 5.1)
    assert flight.is_open(5.1)
    assert flight.behind_ms == 0.0


def test_what_is_never_answered_is_no_lag_for_good() -> None:
    """Where it was, the pauses in which the model could catch up would be left out for ever."""
    flight = InFlight()
    steps(flight, 4)
    flight.answered(4 * STEP_MS, 0.1)
    steps(flight, 4, 0.2)
    flight.answered(6 * STEP_MS, 0.4)
    assert flight.behind_ms == pytest.approx(100)
    assert flight.is_open(0.41 + LOST_AFTER_S)
    assert flight.behind_ms == 0.0


def test_waiting_for_the_caller_changes_nothing() -> None:
    flight = InFlight()
    steps(flight, 2)
    flight.answered(2 * STEP_MS, 0.1)
    assert flight.is_open(60.0)
    steps(flight, 2, 60.0)
    assert flight.is_open(60.0)
    flight.answered(3 * STEP_MS, 60.1)
    assert flight.behind_ms == pytest.approx(0, abs=1e-6)


def test_a_model_that_says_more_than_it_was_asked_is_not_behind() -> None:
    flight = InFlight()
    flight.sent(STEP_MS, 0.0)
    flight.answered(1000.0, 0.1)
    assert flight.behind_ms == 0.0
    for number in range(2, 20):
        assert flight.is_open(number * 0.08)
        flight.sent(STEP_MS, number * 0.08)
        flight.answered(1000.0 + (number - 1) * STEP_MS, number * 0.08)
    assert flight.behind_ms == 0.0


@pytest.mark.parametrize("total_ms", [0.0, 79.5, 1e9])
def test_any_first_answer_is_usual(total_ms: float) -> None:
    flight = InFlight()
    flight.sent(STEP_MS, 0.0)
    flight.answered(total_ms, 0.1)
    assert flight.behind_ms == 0.0
    assert flight.is_open(0.1)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=200), st.integers(0, 5))
def test_no_more_is_sent_than_a_window_and_lag_is_never_more_than_that(
    answers: list[int], on_way: int
) -> None:
    flight, sent, answered = InFlight(), 0, 0
    least = float("inf")
    for number, count in enumerate(answers):
        now_s = number * 0.08
        if flight.is_open(now_s):
            flight.sent(STEP_MS, now_s)
            sent += 1
        answered = max(answered, min(answered + count, sent - on_way))
        flight.answered(answered * STEP_MS, now_s)
        least = min(least, sent - answered)
        assert 0 <= flight.behind_ms <= (sent - answered - least) * STEP_MS <= WINDOW_MS
