"""One-time tokens of media streams."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.errors import StreamRefused
from personaplex_bridge.logs import Redacting
from personaplex_bridge.web import tickets
from personaplex_bridge.web.tickets import LIFETIME_S, REMEMBERED_S, Refusal, Tickets
from tests.clocks import HandClock

CALL, OTHER = "CA" + "1" * 32, "CA" + "2" * 32
PARAMETERS = {"persona": "noir", "voice": "VARM1"}


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def issued(clock: HandClock) -> Tickets:
    return Tickets(clock)


def refusal(
    issued: Tickets, token: str, call_sid: str = CALL, parameters: dict[str, str] = PARAMETERS
) -> str:
    """Why a token isn't taken, or "" if it is."""
    try:
        issued.redeem(token, call_sid, parameters)
    except StreamRefused as error:
        shown, reason, code = str(error), error.reason, error.code
    else:
        return ""
    assert code == 1008
    assert len(token) < 8 or token not in shown
    return reason


def test_a_token_is_taken_once(issued: Tickets) -> None:
    token = issued.issue(CALL, PARAMETERS)
    assert refusal(issued, token, parameters=dict(reversed(PARAMETERS.items()))) == ""
    assert refusal(issued, token) == Refusal.USED


def test_each_token_is_another_and_fits_a_parameter(issued: Tickets) -> None:
    tokens = {issued.issue(CALL, PARAMETERS) for _ in range(100)}
    assert len(tokens) == 100
    assert all(re.fullmatch(r"once_[A-Za-z0-9_-]{43}", token) for token in tokens)
    assert all(refusal(issued, token) == "" for token in tokens), "a webhook may be asked again"


def test_a_token_expires(issued: Tickets, clock: HandClock) -> None:
    in_time, late = issued.issue(CALL, PARAMETERS), issued.issue(CALL, PARAMETERS)
    clock.at_s += LIFETIME_S
    assert refusal(issued, in_time) == ""
    clock.at_s += 0.001
    assert refusal(issued, late) == Refusal.EXPIRED


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"persona": "noir"},
        {"persona": "noir", "voice": "NATF2"},
        {**PARAMETERS, "text_prompt": "You are rude."},
        {"persona": "noir", "Voice": "VARM1"},
    ],
)
def test_other_parameters_than_the_webhooks(issued: Tickets, parameters: dict[str, str]) -> None:
    token = issued.issue(CALL, PARAMETERS)
    assert refusal(issued, token, parameters=parameters) == Refusal.ALTERED
    assert refusal(issued, token) == "", "whoever has it rightly can still use it"


def test_the_token_of_another_call(issued: Tickets) -> None:
    token = issued.issue(CALL, PARAMETERS)
    assert refusal(issued, token, OTHER) == Refusal.OTHER_CALL
    assert refusal(issued, token, "") == Refusal.OTHER_CALL
    assert refusal(issued, token) == ""


def test_tokens_that_were_never_issued(issued: Tickets) -> None:
    token = issued.issue(CALL, PARAMETERS)
    assert refusal(issued, "") == Refusal.MISSING
    for guess in ("once_", token[:-1], token + "A", token[:-1] + "!", token.upper(), "\ud800"):
        assert refusal(issued, guess) == Refusal.UNKNOWN
    assert refusal(issued, token) == ""


@given(st.text(max_size=80))
def test_no_guess_is_right(guess: str) -> None:
    issued = Tickets(HandClock())
    issued.issue(CALL, PARAMETERS)
    assert refusal(issued, guess) in (Refusal.UNKNOWN, Refusal.MISSING)


def test_what_is_remembered_is_bounded(
    issued: Tickets, clock: HandClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tickets, "MAX_TICKETS", 100)
    first = issued.issue(CALL, PARAMETERS)
    others = [issued.issue(OTHER, PARAMETERS) for _ in range(100)]
    assert len(issued) == 100
    assert refusal(issued, first) == Refusal.UNKNOWN, "the oldest is forgotten"
    assert refusal(issued, others[0], OTHER) == ""
    clock.at_s += REMEMBERED_S + 1
    issued.issue(CALL, PARAMETERS)
    assert len(issued) == 1


def test_a_token_does_not_show_in_a_log(issued: Tickets) -> None:
    from tests.test_logs import line

    token = issued.issue(CALL, PARAMETERS)
    assert line(Redacting(), f"got {token}.") == "got (token)."
