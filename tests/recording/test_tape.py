"""The two tracks of a recording, in the phone's time."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.format import HD
from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS, SILENCE, SILENT_FRAME
from personaplex_bridge.recording.tape import MAX_HELD_MS, PART_MS, Tape

MS = 8
START_S = 1000.0
TRAVEL_S = 0.03


@dataclass
class Call:
    """A phone that sends frames and plays what it is sent, and the tape of it."""

    left: bytes = b""
    right: bytes = b""
    parts: list[int] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self.tape = Tape(self._sink)

    def _sink(self, left: bytes, right: bytes) -> None:
        assert len(left) == len(right)
        self.parts.append(len(left))
        self.left += left
        self.right += right

    @property
    def now_s(self) -> float:
        """When the frame that was sent last has come."""
        return START_S + self.sent * FRAME_MS / 1000 + TRAVEL_S

    def say(self, frames: int, code: int, late_s: float = 0.0) -> None:
        for _ in range(frames):
            timestamp_ms = self.sent * FRAME_MS
            self.sent += 1
            self.tape.hear(timestamp_ms, bytes([code]) * FRAME_BYTES, self.now_s + late_s)

    def finish(self) -> None:
        self.tape.finish(self.now_s)


def frames(code: int, number: int) -> bytes:
    return bytes([code]) * FRAME_BYTES * number


def test_the_callers_frames_stand_where_their_timestamps_say() -> None:
    call = Call()
    call.say(100, 1)
    call.sent += 50  # lost on the way
    call.say(100, 2)
    call.finish()
    assert call.left == frames(1, 100) + SILENT_FRAME * 50 + frames(2, 100)
    assert call.right == SILENT_FRAME * 250
    assert set(call.parts[:-1]) == {PART_MS * MS}


def test_late_frames_still_get_their_place() -> None:
    call = Call()
    call.say(50, 1)
    call.sent += 25
    call.say(25, 3)
    for number in range(50, 75):
        call.tape.hear(number * FRAME_MS, frames(2, 1), call.now_s)
    call.say(100, 4)
    call.finish()
    assert call.left == frames(1, 50) + frames(2, 25) + frames(3, 25) + frames(4, 100)


def test_timestamps_that_begin_anew_go_on() -> None:
    call = Call()
    call.say(100, 1)
    for number in range(100):
        call.tape.hear(number * FRAME_MS, frames(2, 1), call.now_s + (number + 1) * 0.02)
    call.tape.finish(call.now_s + 2)
    assert call.left == frames(1, 100) + frames(2, 100)


def test_what_is_sent_is_heard_when_the_phone_plays_it() -> None:
    call = Call()
    call.say(50, 1)
    call.tape.play(frames(7, 4), 0.0, call.now_s)
    call.tape.play(frames(8, 4), 80.0, call.now_s + 0.001)
    call.say(50, 1)
    call.tape.play(frames(9, 1), 0.0, call.now_s)
    call.say(100, 1)
    call.finish()
    silent = SILENT_FRAME
    expected = silent * 50 + frames(7, 4) + frames(8, 4) + silent * 42 + frames(9, 1)
    assert call.right == expected + silent * 99


def test_a_phone_that_has_stalled_plays_later() -> None:
    call = Call()
    call.say(50, 1)
    call.tape.play(frames(7, 4), 0.0, call.now_s)
    call.tape.play(frames(8, 4), 580.0, call.now_s)  # half a second later than it should
    call.say(100, 1)
    call.finish()
    heard = SILENT_FRAME * 50 + frames(7, 4) + SILENT_FRAME * 25 + frames(8, 4)
    assert call.right == heard + SILENT_FRAME * (150 - 83)


def test_what_is_cleared_is_not_heard() -> None:
    call = Call()
    call.say(50, 1)
    call.tape.play(frames(7, 20), 0.0, call.now_s)
    call.say(10, 1)
    call.tape.clear(call.now_s)
    call.say(100, 1)
    call.finish()
    assert call.right == SILENT_FRAME * 50 + frames(7, 10) + SILENT_FRAME * 100


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["hear", "play", "clear"]),
            st.integers(0, 2**40),
            st.integers(0, 3000),
            st.floats(0, 2),
        ),
        max_size=30,
    )
)
def test_whatever_comes_it_is_bounded_and_both_sides_are_of_one_length(
    steps: list[tuple[str, int, int, float]],
) -> None:
    kept: list[int] = []
    tape = Tape(lambda left, right: kept.append(len(left) - len(right)))
    now_s = START_S
    for what, number, size, later_s in steps:
        now_s += later_s
        if what == "hear":
            tape.hear(number % 10_000_000, SILENCE * size, now_s)
        elif what == "play":
            tape.play(SILENCE * size, number % 5000, now_s)
        else:
            tape.clear(now_s)
        for track in (tape._caller, tape._agent):
            assert len(track._bytes) <= MAX_HELD_MS * MS
    assert not any(kept)


@given(st.lists(st.floats(0, 90), min_size=1, max_size=60))
def test_samples_of_two_bytes_stay_whole_wherever_they_are_put(waits_ms: list[float]) -> None:
    left, right = bytearray(), bytearray()

    def keep(caller: bytes, agent: bytes) -> None:
        left.extend(caller)
        right.extend(agent)

    tape = Tape(keep, HD)
    caller, agent = b"\x01\x02" * 480, b"\x03\x04" * 480
    for number, wait_ms in enumerate(waits_ms):
        now_s = START_S + number * 0.02 + wait_ms / 7000
        tape.hear(number * 20, caller, now_s)
        tape.play(agent, wait_ms, now_s)
        if number % 20 == 19:
            tape.clear(now_s)
    tape.finish(START_S + 10)
    assert len(left) == len(right)
    assert bytes(left).startswith(caller * len(waits_ms))
    assert set(zip(right[::2], right[1::2], strict=True)) <= {(0, 0), (3, 4)}
