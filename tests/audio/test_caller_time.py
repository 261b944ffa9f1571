"""Where Twilio's media messages belong: media time follows the phone's."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.caller_time import MAX_FILL_MS, RESTART_MS, CallerTime
from personaplex_bridge.audio.mulaw import FRAME_MS

MAX_FILL = MAX_FILL_MS // FRAME_MS


def placed(time: CallerTime, *timestamps_ms: int) -> list[int | None]:
    return [time.place(timestamp_ms, FRAME_MS) for timestamp_ms in timestamps_ms]


def test_messages_in_time_need_nothing() -> None:
    time = CallerTime()
    assert placed(time, 0, 20, 40, 60) == [0, 0, 0, 0]
    assert (time.filled, time.doubled) == (0, 0)


def test_a_stream_may_begin_at_any_time() -> None:
    time = CallerTime()
    assert placed(time, 100_000, 100_020, 100_060) == [0, 0, 1]


def test_lost_messages_are_filled() -> None:
    time = CallerTime()
    assert placed(time, 0, 20, 100, 120) == [0, 0, 3, 0]
    assert time.filled == 3


def test_a_message_that_comes_twice_is_dropped() -> None:
    time = CallerTime()
    assert placed(time, 0, 20, 20, 40, 0) == [0, 0, None, 0, None]
    assert time.doubled == 2


def test_of_two_in_the_wrong_order_the_late_one_is_dropped_and_its_place_filled() -> None:
    time = CallerTime()
    assert placed(time, 0, 40, 20, 60) == [0, 1, None, 0]
    assert (time.filled, time.doubled) == (1, 1)


def test_a_hole_too_long_is_filled_in_part_and_then_over() -> None:
    time = CallerTime()
    assert placed(time, 0, 3_600_000, 3_600_020) == [0, MAX_FILL, 0]
    assert time.filled == MAX_FILL


def test_what_the_wall_clock_put_in_is_not_put_in_again() -> None:
    time = CallerTime()
    placed(time, 0)
    time.fill(8)
    assert placed(time, 220, 240, 280) == [2, 0, 1]
    assert time.filled == 8 + 2 + 1


def test_what_the_wall_clock_put_in_too_much_is_no_credit_for_later() -> None:
    time = CallerTime()
    placed(time, 0)
    time.fill(8)
    assert placed(time, 20, 80) == [0, 2]


@pytest.mark.parametrize("sizes", [[0], [1, 159], [80, 240], [1600]])
def test_messages_of_any_size_count_by_their_length(sizes: list[int]) -> None:
    time = CallerTime()
    at_ms = 0.0
    for size in sizes * 20:
        assert time.place(int(at_ms), size / 8) == 0
        at_ms += size / 8
    assert time.place(int(at_ms) + 40, FRAME_MS) == 2


def test_small_errors_of_timestamps_do_not_add_up() -> None:
    time = CallerTime()
    assert set(placed(time, *[20 * n + 19 * (n % 2) for n in range(500)])) == {0}


@pytest.mark.parametrize("restart_ms", [0, 5_000])
def test_timestamps_that_begin_again_are_followed(restart_ms: int) -> None:
    """Else a caller would stay unheard until they have caught up with the old ones."""
    time = CallerTime()
    placed(time, 100_000, 100_020)
    assert placed(time, restart_ms, restart_ms + 20, restart_ms + 60) == [0, 0, 1]
    assert time.doubled == 0


def test_one_wild_timestamp_costs_no_more_than_one_fill() -> None:
    for wild_ms in (0, 2**62):
        time = CallerTime()
        placed(time, 100_000)
        filled = placed(time, wild_ms, 100_040, 100_060)
        assert None not in filled
        assert filled[-1] == 0
        assert time.filled <= MAX_FILL


def test_what_is_late_by_less_than_a_restart_is_no_restart() -> None:
    time = CallerTime()
    placed(time, 100_000)
    assert placed(time, 100_020 - RESTART_MS, 100_020) == [None, 0]


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["once"] * 6 + ["lost", "twice", "early"]),
            st.integers(0, FRAME_MS - 1),
        ),
        max_size=200,
    )
)
def test_media_time_stays_within_a_frame_of_phone_time(fates: list[tuple[str, int]]) -> None:
    """Whatever is lost, doubled, or overtaken by the message after it (and a little off)."""
    order = [(number, fate, error) for number, (fate, error) in enumerate(fates)]
    for at in range(len(order) - 1):
        if order[at][1] == "early":
            order[at], order[at + 1] = order[at + 1], order[at]
    time = CallerTime()
    media_frames, first, latest = 0, None, 0
    for number, fate, error_ms in order:
        for _ in range({"lost": 0, "twice": 2}.get(fate, 1)):
            if first is None:
                first = latest = number
            missing = time.place(number * FRAME_MS + error_ms, FRAME_MS)
            latest = max(latest, number)
            if missing is not None:
                media_frames += missing + 1
            # A run of lost frames longer than a fill is cut short.
            if latest - first < MAX_FILL:
                assert abs(media_frames - (latest - first + 1)) <= 1
