"""Whether a call that has lost its model tries again."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import HandshakeTimeout, ModelBusy, ModelError, ModelUnavailable
from personaplex_bridge.personaplex.voices import Role
from personaplex_bridge.recovery import (
    LAST_ATTEMPT_S,
    MAX_PAUSE_S,
    MAX_RECOVERIES,
    RECAP_WORDS,
    RECOVER_S,
    Recovery,
    with_recap,
)

DOWN = ModelUnavailable("down")
ROLE = Role("NATF2", "You are a teacher.")


def attempts(recovery: Recovery, now_s: float, error: ModelError = DOWN) -> list[float]:
    """When attempts begin, if all fail at once."""
    began = []
    while (pause_s := recovery.pause_s(error, now_s)) is not None:
        now_s += pause_s
        began.append(now_s)
    return began


def test_attempts_begin_within_five_seconds() -> None:
    began = attempts(Recovery(100.0), 100.0)
    assert 5 < len(began) < 20
    assert 100.0 + RECOVER_S - MAX_PAUSE_S < began[-1] <= 100.0 + RECOVER_S


def test_a_long_wait_for_a_handshake_is_the_only_one() -> None:
    assert attempts(Recovery(100.0), 130.0) == []


def test_after_a_handshake_that_never_came_there_is_one_more_attempt() -> None:
    recovery = Recovery(0.0)
    late = HandshakeTimeout("late")
    assert recovery.pause_s(late, 30.0) == 0.0
    assert recovery.attempt_s == LAST_ATTEMPT_S
    assert recovery.pause_s(late, 40.0) is None
    recovery.ready()
    assert recovery.attempt_s is None


def test_after_a_failure_at_once_and_then_for_five_seconds() -> None:
    recovery = Recovery(0.0)
    recovery.ready()
    began = attempts(recovery, 50.0)
    assert began[0] == 50.0
    assert began[-1] <= 50.0 + RECOVER_S


def test_so_often_and_no_more() -> None:
    recovery = Recovery(0.0)
    for number in range(MAX_RECOVERIES):
        recovery.ready()
        assert recovery.pause_s(DOWN, 10.0 * number) == 0.0
    recovery.ready()
    assert recovery.pause_s(DOWN, 100.0) is None


def test_busy_is_no_failure_before_there_was_a_model() -> None:
    busy = ModelBusy("all")
    assert attempts(Recovery(0.0), 0.0, busy) == []
    recovery = Recovery(0.0)
    recovery.ready()
    assert len(attempts(recovery, 10.0, busy)) > 5, "a server may become free"


def test_a_recap_holds_the_last_words() -> None:
    told = with_recap(ROLE, (f"w{number}" for number in range(200)))
    assert told.voice == ROLE.voice
    assert told.text_prompt.startswith(ROLE.text_prompt)
    assert told.text_prompt.split()[-RECAP_WORDS:] == [f"w{n}" for n in range(140, 200)]
    assert with_recap(ROLE, []) == ROLE


def test_a_prompt_that_is_full_has_no_room_for_a_recap() -> None:
    full = Role("NATF2", "x" * 8000)
    assert with_recap(full, ["word"]) == full


@given(st.lists(st.text(max_size=200), max_size=80))
def test_any_words_give_a_role(words: list[str]) -> None:
    assert with_recap(ROLE, words).text_prompt.startswith(ROLE.text_prompt)
