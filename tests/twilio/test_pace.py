"""How fast a media stream may go."""

from __future__ import annotations

import pytest

from personaplex_bridge.errors import StreamError
from personaplex_bridge.twilio.pace import MAX_AHEAD_S, MESSAGES_PER_S, POLICY_VIOLATION, Pace

FRAME = 160


def test_real_time_passes_and_so_does_all_that_a_stall_held_up() -> None:
    pace = Pace(100.0)
    for number in range(500):
        pace.note(FRAME, 100.0 + number * 0.02)
    for _ in range(1000):  # 20 s, at once
        pace.note(FRAME, 130.0)


def test_media_ahead_of_the_clock_does_not_pass() -> None:
    pace = Pace(100.0)
    for _ in range(int(MAX_AHEAD_S * 50)):
        pace.note(FRAME, 100.0)
    with pytest.raises(StreamError, match="faster than real time") as caught:
        pace.note(FRAME, 100.0)
    assert caught.value.code == POLICY_VIOLATION


def test_a_flood_of_other_messages_does_not_pass() -> None:
    pace = Pace(0.0)
    for _ in range(int(MAX_AHEAD_S * MESSAGES_PER_S)):
        pace.note(0, 0.0)
    with pytest.raises(StreamError, match="too fast"):
        pace.note(0, 0.0)
    pace.note(0, 10.0)


def test_real_time_is_as_many_bytes_as_the_format_has() -> None:
    pace = Pace(100.0, 48_000)
    for _ in range(int(MAX_AHEAD_S * 50)):
        pace.note(960, 100.0)
    with pytest.raises(StreamError, match="faster than real time"):
        pace.note(960, 100.0)
