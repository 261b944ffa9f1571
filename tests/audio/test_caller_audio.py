"""The caller's audio between Twilio and the model."""

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio import mulaw
from personaplex_bridge.audio.caller_audio import (
    FRAMES_PER_STEP,
    STANDING_MS,
    STANDING_S,
    CallerAudio,
    Gate,
)
from personaplex_bridge.audio.mulaw import FRAME_BYTES, FRAME_MS, Pcm

VOICE, HUM, QUIET = b"\x10", b"\x70", b"\xff"
SILENT_STEP = QUIET * FRAME_BYTES * FRAMES_PER_STEP
TARGET_MS = 200


class Loud:
    """A detector: what is loud is voice."""

    def listen(self, pcm: Pcm) -> list[bool]:
        loud: list[bool] = (abs(pcm.reshape(-1, FRAME_BYTES)).max(axis=1) > 1000).tolist()
        return loud


class OnlyVoice:
    """A gate: a step without voice is not heard."""

    def opens(self, voiced: Sequence[bool]) -> bool:
        assert len(voiced) == FRAMES_PER_STEP
        return any(voiced)


class Caller:
    """Sends messages of one frame, 20 ms apart by their timestamps."""

    def __init__(
        self, gate: Gate | None = None, target_ms: int | None = TARGET_MS, limit_ms: int = 1000
    ) -> None:
        self.audio = CallerAudio(Loud(), gate, limit_ms, target_ms)
        self.steps: list[bytes] = []
        self._number = 0

    def says(self, *runs: tuple[bytes, int]) -> list[bool]:
        voiced = []
        for code, frames in runs:
            for _ in range(frames):
                voiced += self.audio.receive(self._number * FRAME_MS, code * FRAME_BYTES)
                self._number += 1
        return voiced

    def loses(self, frames: int) -> None:
        self._number += frames

    def takes(self) -> bytes:
        """Everything that makes up whole steps."""
        taken = b""
        while (step := self.audio.take()) is not None:
            taken += step
        return taken


def ready(**options: object) -> Caller:
    """A caller whose model is ready and has no lag."""
    caller = Caller(**options)  # type: ignore[arg-type] # passed on as they are
    caller.audio.settle(0.0, 0.0)
    return caller


def frames(*runs: tuple[bytes, int]) -> bytes:
    return b"".join(code * FRAME_BYTES * number for code, number in runs)


def test_the_model_gets_what_the_caller_says_in_steps_of_80_ms() -> None:
    caller = ready()
    assert caller.says((VOICE, 3), (QUIET, 4)) == [True] * 3 + [False]
    assert caller.takes() == frames((VOICE, 3), (QUIET, 1))
    assert caller.audio.waiting_frames == 3


def test_in_haste_each_frame_is_listened_to_as_it_comes() -> None:
    caller = ready()
    caller.says((QUIET, 2))
    caller.audio.in_haste = True
    assert caller.says((VOICE, 1)) == [False, False, True]
    assert caller.says((VOICE, 1)) == [True]


def test_what_was_lost_becomes_silence_in_its_place() -> None:
    caller = ready()
    caller.says((VOICE, 3))
    caller.loses(2)
    caller.says((VOICE, 3))
    caller.says((QUIET, 5))
    assert caller.takes() == frames((VOICE, 3), (QUIET, 2), (VOICE, 3), (QUIET, 4))


def test_what_comes_twice_is_heard_once() -> None:
    caller = ready()
    audio = caller.audio
    for timestamp_ms in (0, 0, 20, 40, 40, 60, 60):
        audio.receive(timestamp_ms, VOICE * FRAME_BYTES)
    assert (len(audio.backlog), audio.time.doubled) == (4, 3)


def test_payloads_of_any_size_give_whole_frames() -> None:
    audio = ready().audio
    audio.in_haste = True
    assert audio.receive(0, VOICE * 100) == []
    assert audio.receive(12, VOICE * 100) == [True]
    assert audio.receive(25, b"") == []
    assert audio.receive(25, VOICE * 440) == [True, True, True]
    assert audio.take() == VOICE * 640
    assert audio.waiting_frames == 0


def test_a_step_of_silence_passes_when_nothing_comes() -> None:
    caller = ready()
    caller.audio.fill()
    assert caller.takes() == SILENT_STEP
    assert caller.audio.time.filled == FRAMES_PER_STEP


def test_the_gate_puts_silence_in_the_place_of_noise() -> None:
    caller = ready(gate=OnlyVoice())
    caller.says((HUM, 4), (HUM, 3), (VOICE, 1), (HUM, 4))
    assert caller.takes() == SILENT_STEP + frames((HUM, 3), (VOICE, 1)) + SILENT_STEP
    assert caller.audio.gated == 8


def test_before_the_model_is_ready_words_are_kept_and_the_pauses_around_them_are_not() -> None:
    caller = Caller()
    caller.says((HUM, 500), (VOICE, 10), (HUM, 30), (VOICE, 10), (HUM, 200))
    assert caller.takes() == frames((VOICE, 10), (HUM, 5), (VOICE, 10), (HUM, 3))
    assert caller.audio.backlog.dropped == 0


def test_before_the_model_is_ready_the_latest_words_are_kept() -> None:
    caller = Caller(limit_ms=400)
    caller.says((HUM, 6), (VOICE, 30))
    assert caller.takes() == frames((VOICE, 20))
    assert caller.audio.backlog.dropped == 10


def test_without_lag_no_pause_is_shortened() -> None:
    caller = ready()
    for step in range(50):
        caller.says((QUIET, 4))
        caller.audio.settle(step * 0.08, 0.0)
        assert len(caller.takes()) == 640
    assert caller.audio.backlog.shortened == 0


def test_lag_above_the_target_is_worked_off_at_once() -> None:
    caller = ready()
    caller.says((VOICE, 5), (QUIET, 30), (VOICE, 5))
    caller.audio.settle(1.0, 0.0)
    assert caller.audio.backlog.shortened == 25
    assert caller.takes() == frames((VOICE, 5), (QUIET, 5), (VOICE, 2))


def test_lag_of_the_model_counts_too() -> None:
    caller = ready()
    caller.says((QUIET, 4))
    caller.audio.settle(1.0, 220.0)
    assert caller.audio.backlog.shortened == 4
    assert caller.audio.lag.max_ms == 220.0


def test_a_little_lag_that_stands_is_worked_off_too() -> None:
    caller = ready()
    now_s = 0.1
    while now_s < 0.1 + STANDING_S:
        caller.says((QUIET, 4))
        caller.audio.settle(now_s, STANDING_MS - 1.0)
        caller.takes()
        now_s += 0.08
    assert caller.audio.backlog.shortened == 0


def test_between_measurements_nothing_is_left_out() -> None:
    """The lag is measured when a step is complete: were frames left out meanwhile, none would be,
    and the model's clock would stand still until the caller speaks.
    """
    caller = ready()
    caller.audio.settle(1.0, 300.0)
    caller.says((QUIET, 40))
    assert len(caller.audio.backlog) == 40


def test_lag_is_never_worked_off_without_a_target() -> None:
    caller = ready(target_ms=None)
    caller.says((QUIET, 40))
    caller.audio.settle(1.0, 800.0)
    caller.says((QUIET, 5))
    assert caller.audio.backlog.shortened == 0


MESSAGES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(["say", "say", "hum", "hum"]), st.integers(1, 40)),
        st.tuples(st.sampled_from(["lose", "double", "fill", "take"]), st.integers(1, 12)),
        st.tuples(st.just("settle"), st.integers(0, 600)),
    ),
    max_size=40,
)


@given(MESSAGES, st.sampled_from([None, 40, TARGET_MS]), st.sampled_from([80, 400, 1000]))
def test_every_frame_is_accounted_for(
    events: list[tuple[str, int]], target_ms: int | None, limit_ms: int
) -> None:
    caller = Caller(target_ms=target_ms, limit_ms=limit_ms)
    audio, taken_bytes = caller.audio, 0
    for number, (event, amount) in enumerate(events):
        match event:
            case "say":
                caller.says((VOICE, amount))
            case "hum":
                caller.says((HUM, amount))
            case "lose":
                caller.loses(amount)
            case "double":
                audio.receive(-FRAME_MS * 3, QUIET * FRAME_BYTES)
            case "fill":
                audio.fill()
            case "take":
                taken_bytes += len(audio.take() or b"")
            case _:
                audio.settle(number * 0.08, float(amount))
        assert len(audio.backlog) * FRAME_MS <= limit_ms
    received = audio.received_bytes // FRAME_BYTES
    backlog, time = audio.backlog, audio.time
    assert received + time.filled == (
        time.doubled
        + backlog.shortened
        + backlog.dropped
        + audio.waiting_frames
        + taken_bytes // FRAME_BYTES
    )


def test_the_detector_of_these_tests_tells_voice_from_hum() -> None:
    assert Loud().listen(mulaw.decode(frames((HUM, 1), (VOICE, 1)))) == [False, True]
