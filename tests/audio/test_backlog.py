"""The bounded store of what the model has not been sent yet."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.backlog import MulawBacklog

FRAME = 160


def frames(*numbers: int) -> bytes:
    return b"".join(bytes([number]) * FRAME for number in numbers)


def test_first_in_first_out() -> None:
    backlog = MulawBacklog(1000)
    backlog.append(frames(1, 2))
    backlog.append(frames(3))
    assert len(backlog) == 3 * FRAME
    assert backlog.take(FRAME) == frames(1, 2, 3)
    assert len(backlog) == 0
    assert backlog.take(FRAME) == b""
    assert backlog.dropped_frames == 0


def test_the_oldest_whole_frames_are_dropped_and_counted() -> None:
    backlog = MulawBacklog(60)
    backlog.append(frames(1, 2, 3))
    assert backlog.dropped_frames == 0
    backlog.append(frames(4, 5))
    assert backlog.dropped_frames == 2
    assert backlog.take(FRAME) == frames(3, 4, 5)


def test_more_than_fits_at_once() -> None:
    backlog = MulawBacklog(40)
    backlog.append(frames(*range(10)))
    assert backlog.dropped_frames == 8
    assert backlog.take(FRAME) == frames(8, 9)


def test_a_part_of_a_frame_too_many_costs_a_whole_one() -> None:
    backlog = MulawBacklog(40)
    backlog.append(frames(1, 2) + b"\x03")
    assert backlog.dropped_frames == 1
    assert backlog.take(1) == frames(2) + b"\x03"


@pytest.mark.parametrize(("limit_ms", "limit_bytes"), [(80, 640), (99, 640), (100, 800)])
def test_the_bound_is_whole_frames(limit_ms: int, limit_bytes: int) -> None:
    backlog = MulawBacklog(limit_ms)
    backlog.append(frames(*range(20)))
    assert len(backlog) == limit_bytes


@pytest.mark.parametrize(
    ("multiple", "taken"), [(1, 800), (160, 800), (320, 640), (640, 640), (960, 0)]
)
def test_multiples_are_taken_and_the_rest_is_kept(multiple: int, taken: int) -> None:
    backlog = MulawBacklog(1000)
    backlog.append(frames(1, 2, 3, 4, 5))
    assert backlog.take(multiple) == frames(1, 2, 3, 4, 5)[:taken]
    assert backlog.take(1) == frames(1, 2, 3, 4, 5)[taken:]


steps = st.lists(
    st.tuples(st.just("append"), st.integers(0, 12)) | st.tuples(st.just("take"), st.just(4)),
    max_size=40,
)


@given(steps, st.integers(1, 10))
def test_nothing_is_doubled_and_only_the_oldest_is_missing(
    steps: list[tuple[str, int]], limit_frames: int
) -> None:
    """Against a model: a list of numbered frames."""
    backlog = MulawBacklog(limit_frames * 20)
    kept: list[int] = []
    appended = dropped = 0
    for step, count in steps:
        if step == "append":
            fresh = list(range(appended, appended + count))
            appended += count
            backlog.append(b"".join(number.to_bytes(2) * (FRAME // 2) for number in fresh))
            kept += fresh
            dropped += max(0, len(kept) - limit_frames)
            kept = kept[-limit_frames:]
        else:
            taken = backlog.take(count * FRAME)
            whole = len(kept) // count * count
            assert [int.from_bytes(taken[at : at + 2]) for at in range(0, len(taken), FRAME)] == (
                kept[:whole]
            )
            kept = kept[whole:]
        assert len(backlog) == len(kept) * FRAME
        assert backlog.dropped_frames == dropped
