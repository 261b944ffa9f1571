"""The model's audio on its way to the phone."""

import random
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_bridge.audio.mulaw import (
    ENCODE_TABLE,
    FRAME_BYTES,
    FRAME_MS,
    QUIET,
    SILENT_FRAME,
    loudness,
)
from personaplex_bridge.audio.phone_buffer import MARK_EVERY_MS
from personaplex_bridge.audio.playout import (
    CHUNK_FRAMES,
    KEPT_PAUSE_FRAMES,
    LEAD_MS,
    TAIL_FRAMES,
    Playout,
)

STEP_MS = CHUNK_FRAMES * FRAME_MS
TARGET_MS, LIMIT_MS = 200, 1000
TICK_MS = 5
LOUD, SOFT = 0x10, 0xFF
WORDS = ("x" * 20 + "." * 16) * 20
"""Words of 400 ms with pauses of 320 between them."""


class Line:
    """Playout between a model and a phone that plays on time, in steps of 5 ms.

    Each frame carries its number, in bytes so quiet that they change no loudness.
    """

    def __init__(self, target_ms: int | None = TARGET_MS, *, cushion: bool = True) -> None:
        self.playout = Playout(LIMIT_MS, target_ms, cushion=cushion)
        self.left: list[int | None] = []
        """Numbers of the frames that left for Twilio; None for silence that was put in."""
        self.marks: list[tuple[float, str]] = []
        """When each will come back, at once when it is reached."""
        self.said = 0
        self.loud: set[int] = set()
        self.now_ms = 0

    @property
    def now_s(self) -> float:
        return self.now_ms / 1000

    @property
    def waiting_ms(self) -> float:
        return self.playout.waiting_ms(self.now_s)

    @property
    def at_phone_ms(self) -> float:
        return self.playout.phone.waiting_ms(self.now_s)

    @property
    def lost(self) -> int:
        counts = self.playout.counts
        return counts.shortened + counts.dropped + counts.cleared

    def says(self, pattern: str) -> list[bool]:
        """The model says `x` for sound, `.` for a pause, 20 ms each."""
        frames = b""
        for kind in pattern:
            tag = bytes(0xF8 | self.said >> shift & 7 for shift in (0, 3, 6, 9))
            frames += bytes([LOUD if kind == "x" else SOFT]) * (FRAME_BYTES - 4) + tag
            if kind == "x":
                self.loud.add(self.said)
            self.said += 1
        loud = self.playout.add(frames, self.now_s)
        self.send()
        return loud

    def send(self) -> None:
        """What is due leaves."""
        playout = self.playout
        while playout.due_in_s(self.now_s) == 0.0:
            media = playout.take(self.now_s)
            assert 0 < len(media) <= CHUNK_FRAMES * FRAME_BYTES
            assert len(media) % FRAME_BYTES == 0
            frames = [media[at : at + FRAME_BYTES] for at in range(0, len(media), FRAME_BYTES)]
            self.left += [None if frame == SILENT_FRAME else _number(frame) for frame in frames]
            if (mark := playout.phone.sent(len(frames) * FRAME_MS, self.now_s)) is not None:
                self.marks.append((self.now_s + self.at_phone_ms / 1000, mark))
            assert self.at_phone_ms < LEAD_MS + STEP_MS + 0.001
        assert playout.take(self.now_s) == b""

    def passes(self, ms: int) -> None:
        for _ in range(ms // TICK_MS):
            self.now_ms += TICK_MS
            while self.marks and self.marks[0][0] <= self.now_s + 1e-9:
                self.playout.phone.echoed(self.marks.pop(0)[1], self.now_s)
            self.send()

    def talks(self, pattern: str, late_ms: Sequence[int] = (0,)) -> None:
        """A message every 80 ms; each late by so much, again and again, but in order."""
        began = self.now_ms
        for number, at in enumerate(range(0, len(pattern), CHUNK_FRAMES)):
            due_ms = began + number * STEP_MS + late_ms[number % len(late_ms)]
            self.passes(max(0, due_ms - self.now_ms))
            self.says(pattern[at : at + CHUNK_FRAMES])
        self.passes(max(0, began + len(pattern) * FRAME_MS - self.now_ms))


def _number(frame: bytes) -> int:
    return sum((code & 7) << shift for code, shift in zip(frame[-4:], (0, 3, 6, 9), strict=True))


def late(most_ms: int, seed: int = 1) -> list[int]:
    generator = random.Random(seed)
    return [generator.randrange(0, most_ms + 1, TICK_MS) for _ in range(500)]


def test_in_time_everything_leaves_as_it_comes() -> None:
    line = Line()
    line.talks(WORDS)
    assert line.left == list(range(line.said))
    assert (line.lost, line.playout.counts.cushion, line.playout.counts.gaps) == (0, 0, 0)
    assert line.playout.lag.max_ms < 1


def test_of_a_burst_no_more_leaves_than_the_phone_needs() -> None:
    line = Line()
    line.says("x" * 40)
    assert len(line.left) * FRAME_MS == LEAD_MS + STEP_MS
    line.passes(800 - LEAD_MS - STEP_MS)
    assert line.left == list(range(40))
    assert line.at_phone_ms > 0, "without a gap"


def test_beyond_the_bound_the_oldest_is_dropped() -> None:
    line = Line()
    line.playout.held = True
    line.says("x" * 60)
    assert line.playout.queued_ms == LIMIT_MS
    assert line.playout.counts.dropped == 10
    line.playout.held = False
    line.passes(2000)
    assert line.left == list(range(10, 60))


def test_lag_is_worked_off_in_the_next_pauses() -> None:
    line = Line()
    line.talks(WORDS[:36])
    line.passes(600)
    line.says("x" * 32)  # 640 ms late, all at once
    line.talks(WORDS)
    assert line.waiting_ms <= STEP_MS + FRAME_MS
    assert line.playout.counts.shortened > 0
    assert line.loud <= set(line.left), "no sound is left out"


def test_the_beginning_of_each_pause_stays() -> None:
    line = Line()
    line.says("x" * 30)
    line.says("." * 20 + "x")
    line.passes(2000)
    assert line.left == [*range(30 + KEPT_PAUSE_FRAMES), 50]


def test_without_a_target_nothing_is_left_out() -> None:
    line = Line(None)
    line.says("x" * 30)
    line.talks(WORDS)
    assert line.left == list(range(len(line.left)))
    assert line.lost == 0


def test_held_nothing_leaves_until_it_is_let_go() -> None:
    line = Line()
    line.playout.held = True
    line.says("x" * 8)
    line.passes(300)
    assert line.left == []
    assert line.playout.due_in_s(line.now_s) is None
    line.playout.held = False
    line.passes(STEP_MS)
    assert line.left == list(range(8))


def test_a_clear_forgets_what_waits_and_says_whether_twilio_holds_some() -> None:
    line = Line()
    line.says("x" * 40)
    at_phone = len(line.left)
    line.playout.held = True
    assert line.playout.clear(line.now_s)
    assert line.playout.counts.cleared == 40 - at_phone
    assert line.waiting_ms == 0.0
    assert not line.playout.held
    assert not line.playout.clear(line.now_s)


def test_after_a_clear_the_rest_of_what_was_cleared_is_silent() -> None:
    line = Line()
    line.says("x" * 40)
    line.playout.clear(line.now_s)
    left = len(line.left)
    line.talks("xxxx...xxxxx")
    assert line.left[left:] == [None] * 4 + [44, 45, 46, 47, 48, 49, 50, 51]
    assert line.playout.counts.tail == 4


def test_what_is_said_without_a_pause_after_a_clear_is_silent_for_a_second_at_most() -> None:
    line = Line()
    line.says("x" * 40)
    line.playout.clear(line.now_s)
    left = len(line.left)
    line.talks("x" * 80)
    assert line.left[left:] == [None] * TAIL_FRAMES + list(range(40 + TAIL_FRAMES, 120))


def test_a_clear_before_anything_was_said() -> None:
    assert not Playout(LIMIT_MS, TARGET_MS).clear(0.0)


def test_a_message_that_comes_too_late_in_the_middle_of_sound_leaves_a_gap() -> None:
    line = Line()
    line.says("xxxx")
    line.passes(130)
    line.says("xxxx")
    counts = line.playout.counts
    assert (counts.gaps, round(counts.gap_ms)) == (1, 50)


@pytest.mark.parametrize("pattern", ["xxx.", "...."])
def test_after_a_pause_there_is_no_gap(pattern: str) -> None:
    line = Line()
    line.says(pattern)
    line.passes(500)
    line.says("xxxx")
    assert line.playout.counts.gaps == 0


def test_after_a_clear_there_is_no_gap() -> None:
    line = Line()
    line.says("xxxx")
    line.playout.clear(line.now_s)
    line.passes(500)
    line.says("xxxx")
    assert line.playout.counts.gaps == 0


def test_a_jittering_network_gets_a_cushion_and_a_calm_one_none() -> None:
    gaps = {}
    for cushion in (False, True):
        line = Line(cushion=cushion)
        line.talks(WORDS, late(120))
        line.talks(WORDS, late(120, seed=2))
        gaps[cushion] = line.playout.counts.gaps
        assert (line.playout.counts.cushion > 0) is cushion
    assert gaps[True] <= gaps[False]


def test_a_stuck_phone_is_looked_at_once_a_frame() -> None:
    """Nothing it holds is played: time alone changes nothing, and nobody may spin."""
    line = Line()
    line.passes(1000)
    playout = line.playout
    mark = playout.phone.sent(MARK_EVERY_MS, line.now_s)
    playout.phone.echoed(str(mark), line.now_s + 0.4)
    line.now_ms += 400
    playout.phone.sent(MARK_EVERY_MS, line.now_s)
    playout.phone.sent(2 * FRAME_MS + LEAD_MS, line.now_s)
    line.says("xxxx")
    line.now_ms += 2000
    due_in_s = playout.due_in_s(line.now_s)
    assert due_in_s is not None
    assert due_in_s >= FRAME_MS / 1000
    assert playout.take(line.now_s) == b""


def test_what_is_sound() -> None:
    edge = bytes([int(ENCODE_TABLE[QUIET])])
    louder = bytes([int(ENCODE_TABLE[2 * QUIET]), int(ENCODE_TABLE[65536 - 2 * QUIET])])
    frames = [
        SILENT_FRAME,
        edge + SILENT_FRAME[1:],
        louder[:1] + SILENT_FRAME[1:],
        SILENT_FRAME[1:] + louder[1:],
    ]
    assert loudness(b"".join(frames)) == [False, False, True, True]
    assert loudness(b"") == []


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("says"), st.text("x.", min_size=1, max_size=16)),
        st.tuples(st.just("says"), st.sampled_from(["." * 4, "x" * 4, "." * 40, "x" * 70])),
        st.tuples(st.just("passes"), st.sampled_from(["5", "40", "80", "120", "600"])),
        st.tuples(st.sampled_from(["hold", "let go", "clear"]), st.just("")),
    ),
    max_size=60,
)


@given(EVENTS, st.sampled_from([None, 40, TARGET_MS]), st.booleans())
@settings(max_examples=100)
def test_whatever_happens_frames_keep_their_order_and_are_accounted_for(
    events: list[tuple[str, str]], target_ms: int | None, cushion: bool
) -> None:
    """And whole frames leave, and no more is at Twilio than its bound: see `Line.send`."""
    line = Line(target_ms, cushion=cushion)
    playout = line.playout
    for event, detail in events:
        match event:
            case "says":
                assert line.says(detail) == [kind == "x" for kind in detail]
            case "passes":
                line.passes(int(detail))
            case "clear":
                playout.clear(line.now_s)
            case _:
                playout.held = event == "hold"
        queued = playout.queued_ms // FRAME_MS
        assert playout.queued_ms <= LIMIT_MS
        assert line.said + playout.counts.cushion == line.lost + queued + len(line.left)
    numbers = [number for number in line.left if number is not None]
    assert numbers == sorted(set(numbers))
    if target_ms is None:
        assert playout.counts.shortened == 0
    if not cushion:
        assert playout.counts.cushion == 0
