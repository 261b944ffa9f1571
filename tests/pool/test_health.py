"""A circuit for each server, event by event."""

from __future__ import annotations

import random

import pytest

from personaplex_bridge.errors import HandshakeTimeout, ModelClosed, ModelUnavailable
from personaplex_bridge.pool.health import (
    FAILURES,
    JITTER,
    RETRY_MAX_S,
    TRY_ANYWAY_S,
    Circuit,
    Health,
)

REFUSED, MUTE = ModelUnavailable("refused"), HandshakeTimeout("mute")


def health() -> Health:
    return Health("model server 1", random.Random(1))


def opened(error: Exception = REFUSED) -> Health:
    server = health()
    for _ in range(FAILURES):
        server.failed(error, 0.0)
    return server


def test_a_new_server_is_good() -> None:
    server = health()
    assert (server.circuit, server.rank, server.is_down) == (Circuit.CLOSED, 0, False)
    assert server.ask_at_s is None, "nobody asks a server that has done no wrong"


def test_it_opens_after_three_failures_in_a_row() -> None:
    server = health()
    for _ in range(FAILURES - 1):
        server.failed(MUTE, 0.0)
        assert (server.circuit, server.rank) == (Circuit.CLOSED, 1)
    server.failed(ModelClosed(1006), 0.0)
    assert (server.circuit, server.rank) == (Circuit.OPEN, 3)
    assert server.last_failure == "ModelClosed"


def test_a_handshake_alone_does_not_make_it_good() -> None:
    """It shakes hands, and dies, again and again."""
    server = health()
    for _ in range(FAILURES - 1):
        server.shook_hands()
        server.failed(MUTE, 0.0)
    server.shook_hands()
    assert (server.circuit, server.is_down) == (Circuit.CLOSED, False)
    server.failed(MUTE, 0.0)
    assert server.circuit is Circuit.OPEN


def test_a_connection_that_stood_makes_it_good() -> None:
    server = health()
    for _ in range(10 * FAILURES):
        server.shook_hands()
        server.stood()
        server.failed(MUTE, 0.0)
    assert server.circuit is Circuit.CLOSED


def test_a_server_that_lost_its_last_calls_is_good_after_one_that_went_well() -> None:
    server = health()
    for _ in range(FAILURES):
        assert server.rank == 0
        server.failed(ModelClosed(1006), 0.0, in_call=True)
        server.shook_hands()
    assert (server.circuit, server.rank) == (Circuit.CLOSED, 1), "it shakes hands, no more"
    server.stood()
    assert server.rank == 0


def test_or_else_after_five_minutes() -> None:
    server = health()
    for _ in range(FAILURES):
        server.failed(ModelClosed(1006), 0.0, in_call=True)
    server.shook_hands()
    server.forgive(TRY_ANYWAY_S - 1)
    assert server.rank == 1
    server.forgive(TRY_ANYWAY_S)
    assert server.rank == 0
    server.failed(ModelClosed(1006), TRY_ANYWAY_S, in_call=True)
    server.shook_hands()
    assert server.rank == 1, "one more is enough"


def test_idle_lines_that_go_do_not_open_it() -> None:
    server = health()
    for _ in range(10 * FAILURES):
        server.failed_idle(ModelClosed(1006), 0.0)
        assert (server.circuit, server.rank) == (Circuit.CLOSED, 1)
        assert server.ask_at_s is not None
        assert server.ask_at_s <= 1.0
        server.shook_hands()
        assert server.rank == 0


@pytest.mark.parametrize("error", [REFUSED, MUTE])
def test_it_gets_a_trial_once_it_is_alive(error: Exception) -> None:
    server = opened(error)
    server.alive()
    assert (server.circuit, server.rank, server.is_down) == (Circuit.HALF_OPEN, 2, True)
    assert server.ask_at_s is None
    server.shook_hands()
    assert (server.circuit, server.rank, server.is_down) == (Circuit.CLOSED, 0, False)


def test_one_failure_in_the_trial_opens_it_again() -> None:
    server = opened()
    server.alive()
    server.failed(MUTE, 10.0)
    assert server.circuit is Circuit.OPEN
    assert server.ask_at_s is not None
    assert server.ask_at_s > 10


def test_it_is_asked_less_and_less_often() -> None:
    server, longest, now_s = health(), [1, 2, 4, 8, 16, 30, 30, 30], 0.0
    for most_s in longest:
        server.failed(REFUSED, now_s)
        assert server.ask_at_s is not None
        assert (1 - JITTER) * most_s <= server.ask_at_s - now_s <= most_s
        now_s = server.ask_at_s


def test_bridges_do_not_ask_all_at_once() -> None:
    moments = set()
    for seed in range(10):
        server = Health("model server 1", random.Random(seed))
        server.failed(REFUSED, 0.0)
        moments.add(server.ask_at_s)
    assert len(moments) == 10


def test_a_server_that_was_not_there_for_a_moment_is_good_again() -> None:
    server = health()
    server.failed(REFUSED, 0.0)
    server.alive()
    assert (server.is_down, server.rank) == (False, 0)


def test_a_mute_server_that_answers_a_plain_get_is_still_mute() -> None:
    server = health()
    server.failed(MUTE, 0.0)
    server.alive()
    assert (server.is_down, server.rank, server.ask_at_s) == (True, 1, None)


def test_after_five_minutes_it_gets_a_trial_whatever_a_plain_get_comes_to() -> None:
    """A proxy in front may answer that in its own way."""
    server, now_s = opened(), 0.0
    while server.circuit is Circuit.OPEN:
        assert server.ask_at_s is not None
        now_s = server.ask_at_s
        server.no_answer(REFUSED, now_s)
    assert TRY_ANYWAY_S <= now_s <= TRY_ANYWAY_S + RETRY_MAX_S
    server.failed(REFUSED, now_s)
    server.no_answer(REFUSED, now_s + 30)
    assert server.rank == 3, "and the next in five more"


def test_each_change_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    server = health()
    for _ in range(2 * FAILURES):
        server.failed(REFUSED, 0.0)
    server.alive()
    server.shook_hands()
    server.shook_hands()
    assert [record.getMessage() for record in caplog.records] == [
        "model server 1 failed: refused",
        "model server 1: circuit open",
        "model server 1: circuit half-open",
        "model server 1 answers again",
        "model server 1: circuit closed",
    ]
