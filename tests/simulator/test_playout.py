"""Twilio's playout buffer."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.mulaw import FRAME_BYTES, SILENCE
from personaplex_bridge.simulator.playout import MAX_BUFFERED_S, Playout, PlayoutOverflow

SILENT = SILENCE * FRAME_BYTES
MAX_BUFFERED_BYTES = MAX_BUFFERED_S * 50 * FRAME_BYTES


def frame(number: int) -> bytes:
    return bytes([number]) * FRAME_BYTES


def test_media_is_played_in_order() -> None:
    playout = Playout()
    playout.add(frame(1) + frame(2)[:100])
    playout.add(frame(2)[100:] + frame(3))
    assert playout.waiting_bytes == 3 * FRAME_BYTES
    assert [playout.play_frame()[0] for _ in range(4)] == [frame(1), frame(2), frame(3), SILENT]
    assert playout.waiting_bytes == 0


def test_marks_come_when_all_before_them_has_played() -> None:
    playout = Playout()
    playout.add(frame(1))
    assert playout.mark("one") == []
    playout.add(frame(2) + frame(3))
    assert playout.mark("three") == []
    assert playout.mark("three again") == []
    marks = [playout.play_frame()[1] for _ in range(4)]
    assert marks == [["one"], [], ["three", "three again"], []]


def test_a_mark_within_a_frame_comes_with_it() -> None:
    playout = Playout()
    playout.add(frame(1)[:50])
    playout.mark("early")
    playout.add(frame(1)[50:])
    assert playout.play_frame() == (frame(1), ["early"])


def test_a_mark_when_nothing_waits_is_echoed_at_once() -> None:
    playout = Playout()
    assert playout.mark("first") == ["first"]
    playout.add(frame(1))
    playout.play_frame()
    assert playout.mark("second") == ["second"]


def test_clear_forgets_media_and_echoes_all_marks_at_once() -> None:
    playout = Playout()
    playout.add(frame(1))
    playout.mark("one")
    playout.add(frame(2))
    playout.mark("two")
    assert playout.clear() == ["one", "two"]
    assert playout.waiting_bytes == 0
    assert playout.play_frame() == (SILENT, [])


def test_marks_and_media_after_a_clear() -> None:
    playout = Playout()
    playout.add(frame(1) + frame(2))
    playout.play_frame()
    assert playout.clear() == []
    playout.add(frame(3))
    assert playout.mark("three") == []
    assert playout.play_frame() == (frame(3), ["three"])


def test_a_part_of_a_frame_is_filled_up_with_silence() -> None:
    playout = Playout()
    playout.add(b"\x01" * 10)
    assert playout.mark("end") == []
    assert playout.play_frame() == (b"\x01" * 10 + SILENCE * 150, ["end"])


def test_underruns_are_counted_once_each() -> None:
    playout = Playout()
    for _ in range(3):
        playout.play_frame()
    assert playout.underruns == 0  # nothing has begun yet
    for gap in (1, 2):
        playout.add(frame(1))
        playout.play_frame()
        assert playout.underruns == gap - 1
        for _ in range(3):
            playout.play_frame()
        assert playout.underruns == gap


def test_ten_minutes_is_the_bound() -> None:
    assert MAX_BUFFERED_S == 10 * 60
    playout = Playout()
    playout.add(SILENCE * MAX_BUFFERED_BYTES)
    with pytest.raises(PlayoutOverflow, match="31931"):
        playout.add(SILENCE)


def test_what_has_been_played_makes_room() -> None:
    playout = Playout()
    playout.add(SILENCE * MAX_BUFFERED_BYTES)
    playout.play_frame()
    playout.add(frame(1))
    assert playout.waiting_bytes == MAX_BUFFERED_BYTES


@given(st.lists(st.binary(max_size=500), max_size=10))
def test_what_is_added_is_what_is_heard(parts: list[bytes]) -> None:
    playout = Playout()
    for number, part in enumerate(parts):
        playout.add(part)
        playout.mark(str(number))
    total = b"".join(parts)
    frames = [playout.play_frame() for _ in range(-(-len(total) // FRAME_BYTES))]
    heard = b"".join(audio for audio, _ in frames)
    assert heard == total + SILENCE * (len(heard) - len(total))
    assert playout.waiting_bytes == 0
