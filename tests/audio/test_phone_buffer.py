"""What waits at Twilio, as the bridge knows it, against Twilio's stand-in over a bad network."""

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from personaplex_bridge.audio.mulaw import FRAME_MS
from personaplex_bridge.audio.phone_buffer import (
    MARK_EVERY_MS,
    PROBE_AFTER_S,
    SLOWEST_TRAVEL_S,
    PhoneBuffer,
)
from personaplex_bridge.simulator.playout import Playout

TICK_S = 0.005
CHUNK_MS, LEAD_MS = 80, 80


@dataclass
class Network:
    """Delays in seconds; messages keep their order. In a spell nothing arrives, either way."""

    out_s: float = 0.03
    back_s: float = 0.03
    jitter_s: float = 0.0
    stalls: Sequence[tuple[float, float]] = ()
    lose_mark: Callable[[int], bool] = lambda number: False
    seed: int = 1
    longer_from_s: float = float("inf")
    longer_s: float = 0.0
    """From then on, marks take so much longer to come back."""

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def arrival(self, now_s: float, travel_s: float) -> float:
        due_s = now_s + travel_s + self._random.uniform(0, self.jitter_s)
        for begin_s, end_s in self.stalls:
            if begin_s <= due_s < end_s:
                due_s = end_s
        return due_s


@dataclass
class Call:
    """A bridge that keeps its estimate of what waits at LEAD_MS, and the phone."""

    network: Network
    drift: float = 0.0
    """How much faster than ours the phone's clock is."""
    buffer: PhoneBuffer = field(default_factory=PhoneBuffer)
    errors_ms: list[tuple[float, float]] = field(default_factory=list)
    """At each tick, how much more the bridge believes to wait than does."""
    dry: list[float] = field(default_factory=list)
    """When the phone had nothing to play, while there was something to send."""
    clears: Sequence[float] = ()
    silent: Sequence[tuple[float, float]] = ()
    """The model says nothing in these times."""

    def run(self, seconds: float) -> None:
        phone, network, buffer = Playout(), self.network, self.buffer
        out: deque[tuple[float, bytes | str]] = deque()
        back: deque[tuple[float, str]] = deque()
        latest_out = latest_back = 0.0
        sent_ms = played_ms = forgotten_ms = 0.0
        next_frame_s, marks, clears = 0.013, 0, deque(self.clears)
        now_s = 0.0
        while now_s < seconds:
            reached: list[str] = []
            while out and out[0][0] <= now_s:
                match out.popleft()[1]:
                    case bytes(media):
                        phone.add(media)
                    case "clear":
                        forgotten_ms += phone.waiting_bytes / 8
                        reached += phone.clear()
                    case str(name):
                        reached += phone.mark(name)
            if now_s >= next_frame_s:
                there = phone.waiting_bytes
                reached += phone.play_frame()[1]
                played_ms += min(there / 8, FRAME_MS)
                if not there and not self._is_silent(now_s) and now_s > 1.0:
                    self.dry.append(now_s)
                next_frame_s += FRAME_MS / 1000 / (1 + self.drift)
            for name in reached:
                if not network.lose_mark(int(name[1:])):
                    longer_s = network.longer_s if now_s >= network.longer_from_s else 0.0
                    due_s = network.arrival(now_s, network.back_s + longer_s)
                    latest_back = max(latest_back, due_s)
                    back.append((latest_back, name))
            while back and back[0][0] <= now_s:
                buffer.echoed(back.popleft()[1], now_s)
            if clears and clears[0] <= now_s:
                clears.popleft()
                buffer.cleared(now_s)
                latest_out = max(latest_out, network.arrival(now_s, network.out_s))
                out.append((latest_out, "clear"))
            while not self._is_silent(now_s) and buffer.waiting_ms(now_s) <= (
                LEAD_MS + buffer.late_ms
            ):
                latest_out = max(latest_out, network.arrival(now_s, network.out_s))
                out.append((latest_out, b"\x10" * (CHUNK_MS * 8)))
                sent_ms += CHUNK_MS
                if (due := buffer.sent(CHUNK_MS, now_s)) is not None:
                    marks += 1
                    out.append((latest_out, due))
            if (probe := buffer.probe(now_s)) is not None:
                marks += 1
                latest_out = max(latest_out, network.arrival(now_s, network.out_s))
                out.append((latest_out, probe))
            waiting_ms = sent_ms - played_ms - forgotten_ms
            self.errors_ms.append((now_s, buffer.waiting_ms(now_s) - waiting_ms))
            now_s += TICK_S

    def _is_silent(self, now_s: float) -> bool:
        return any(begin_s <= now_s < end_s for begin_s, end_s in self.silent)

    def worst_ms(self, begin_s: float = 1.0, end_s: float = 1e9) -> tuple[float, float]:
        """The lowest and the highest error in a time."""
        errors = [error for at_s, error in self.errors_ms if begin_s <= at_s < end_s]
        return min(errors), max(errors)


def bounds_ms(network: Network) -> tuple[float, float]:
    """The error that there may be.

    Below: what is on its way out and what a mark's echo has yet to tell, both with their jitter,
    and a frame: more waits than the bridge knows. Above: an echo that comes late looks like a
    phone that is late.
    """
    travel_s = network.out_s + network.back_s + 2 * network.jitter_s
    return -1000 * travel_s - FRAME_MS, 1000 * network.jitter_s + FRAME_MS


def assert_within(call: Call, begin_s: float = 1.0, end_s: float = 1e9) -> None:
    lowest, highest = bounds_ms(call.network)
    found = call.worst_ms(begin_s, end_s)
    rounding_ms = 1e-6
    assert lowest - rounding_ms <= found[0] <= found[1] <= highest + rounding_ms


def test_on_a_calm_network_it_is_right_but_for_what_is_on_its_way() -> None:
    call = Call(Network())
    call.run(20)
    assert_within(call)
    assert call.worst_ms()[1] <= 0
    assert call.dry == []


@given(st.integers(0, 1000), st.sampled_from([0, 50, 120, 300]), st.sampled_from([1, 30, 150, 400]))
@settings(max_examples=20)
def test_jitter_and_distance_leave_it_within_its_bounds(
    seed: int, jitter_ms: int, travel_ms: int
) -> None:
    travel_s = travel_ms / 1000
    call = Call(Network(travel_s, travel_s, jitter_ms / 1000, seed=seed))
    call.run(10)
    assert_within(call, begin_s=2.0)


@pytest.mark.parametrize("begin_s", [8.1, 8.2, 8.3, 8.4])
@pytest.mark.parametrize("length_s", [0.5, 2.0, 6.0])
def test_after_a_stall_it_is_right_again_within_a_second(begin_s: float, length_s: float) -> None:
    end_s = begin_s + length_s
    call = Call(Network(stalls=[(begin_s, end_s)]))
    call.run(end_s + 6.0)
    assert_within(call, 1.0, begin_s)
    assert_within(call, end_s + 1.0)
    assert [at_s for at_s in call.dry if not begin_s <= at_s <= end_s + 0.2] == []


def test_while_the_phone_is_stuck_little_is_sent() -> None:
    call = Call(Network(stalls=[(8.0, 12.0)]))
    call.run(12.5)
    lowest, _ = call.worst_ms(8.0, 12.0)
    assert lowest >= -MARK_EVERY_MS - CHUNK_MS


@pytest.mark.parametrize("jitter_s", [0.0, 0.1])
def test_a_clear_empties_it(jitter_s: float) -> None:
    call = Call(Network(jitter_s=jitter_s), clears=[5.0, 5.02, 7.37, 9.9])
    call.run(14.0)
    for begin_s, end_s in ((1.0, 5.0), (6.0, 7.37), (8.4, 9.9), (10.9, 14.0)):
        assert_within(call, begin_s, end_s)


def test_nothing_waits_right_after_a_clear_and_its_marks_prove_nothing() -> None:
    buffer = PhoneBuffer()
    names = [buffer.sent(MARK_EVERY_MS, 0.0) for _ in range(3)]
    buffer.cleared(0.1)
    assert buffer.waiting_ms(0.1) == 0.0
    buffer.sent(CHUNK_MS, 0.1)
    for name in names:
        buffer.echoed(str(name), 0.15)
    assert buffer.waiting_ms(0.15) == pytest.approx(CHUNK_MS - 50)


def test_a_phone_that_was_late_is_not_taken_for_late_after_a_clear() -> None:
    buffer = PhoneBuffer()
    for number in range(3):
        name = buffer.sent(MARK_EVERY_MS, 0.4 * number)
        buffer.echoed(str(name), 0.4 * (number + 1) + (1.0 if number == 2 else 0.05))
    assert buffer.waiting_ms(2.2) == pytest.approx(0.0)
    buffer.sent(CHUNK_MS, 2.2)
    buffer.cleared(2.2)
    name = buffer.sent(MARK_EVERY_MS, 2.2)
    buffer.echoed(str(name), 2.62)
    assert buffer.end_s(2.62) == pytest.approx(2.6)


@pytest.mark.parametrize("longer_s", [0.05, 0.1, 0.15, 0.3])
def test_a_way_that_becomes_longer_leaves_no_phone_without_sound(longer_s: float) -> None:
    call = Call(Network(longer_from_s=10.0, longer_s=longer_s))
    call.run(40.0)
    assert len([at_s for at_s in call.dry if at_s > 10.0]) * FRAME_MS <= longer_s * 1000 + FRAME_MS


def test_pauses_of_the_model_are_no_error() -> None:
    call = Call(Network(), silent=[(3.0, 5.0), (8.0, 8.2), (9.0, 9.5)])
    call.run(12.0)
    assert_within(call)


def test_a_lost_mark_stops_nothing_for_good() -> None:
    call = Call(Network(lose_mark=lambda number: number == 10))
    call.run(20.0)
    assert_within(call, 11.0)
    assert call.dry != []
    assert call.dry[-1] - call.dry[0] <= PROBE_AFTER_S + 0.1


def test_a_phone_that_never_echoes_a_mark_is_stuck() -> None:
    buffer, now_s, sent_ms = PhoneBuffer(), 0.0, 0
    while now_s < 20.0:
        if buffer.waiting_ms(now_s) <= LEAD_MS:
            buffer.sent(CHUNK_MS, now_s)
            sent_ms += CHUNK_MS
        now_s += TICK_S
    assert sent_ms <= SLOWEST_TRAVEL_S * 1000 + MARK_EVERY_MS + LEAD_MS + CHUNK_MS


def test_a_stuck_phone_is_asked_again_and_again_but_not_all_the_time() -> None:
    buffer = PhoneBuffer()
    assert buffer.sent(MARK_EVERY_MS, 0.0) == "m1"
    asked = [buffer.probe(tick / 100) for tick in range(1000)]
    assert 1 < len([name for name in asked if name]) <= 10 / PROBE_AFTER_S


def test_what_was_too_much_is_corrected_by_the_next_mark() -> None:
    """One echo that took 300 ms longer than the others."""
    buffer = PhoneBuffer()
    sent = [buffer.sent(MARK_EVERY_MS, 0.0) for _ in range(4)]
    for number, late_s in enumerate([0.05, 0.35, 0.05]):
        buffer.echoed(str(sent[number]), 0.4 * (number + 1) + late_s)
        extra_ms = buffer.end_s(0.0) * 1000 - 4 * MARK_EVERY_MS
        assert extra_ms == pytest.approx(300 if number == 1 else 0)


def test_the_first_mark_may_be_the_slowest() -> None:
    buffer = PhoneBuffer()
    sent = [buffer.sent(MARK_EVERY_MS, 0.0) for _ in range(4)]
    buffer.echoed(str(sent[0]), 0.4 + 0.5)
    buffer.echoed(str(sent[1]), 0.8 + 0.1)
    buffer.echoed(str(sent[2]), 1.2 + 0.3)
    assert buffer.end_s(1.5) == pytest.approx(1.6 + 0.2)


def test_echoes_out_of_order_twice_or_of_unknown_marks_do_no_harm() -> None:
    buffer = PhoneBuffer()
    first, second, third = (str(buffer.sent(MARK_EVERY_MS, 0.0)) for _ in range(3))
    buffer.echoed(first, 0.45)
    for name, now_s in ((second, 0.85), (second, 0.9), (first, 0.9), ("other", 1.0), ("", 1.1)):
        buffer.echoed(name, now_s)
        assert buffer.end_s(now_s) == pytest.approx(1.2)
    buffer.echoed(third, 1.25)
    assert buffer.waiting_ms(1.25) == 0.0


def test_a_mark_that_overtakes_another_counts_for_both() -> None:
    buffer = PhoneBuffer()
    first, second = (str(buffer.sent(MARK_EVERY_MS, 0.0)) for _ in range(2))
    buffer.echoed(second, 0.85)
    buffer.echoed(first, 0.86)
    assert buffer.end_s(0.86) == pytest.approx(0.8)


def test_marks_are_due_every_400_ms_of_media_and_all_different() -> None:
    buffer = PhoneBuffer()
    names = [buffer.sent(80, 0.0) for _ in range(500)]
    assert [number for number, name in enumerate(names, start=1) if name] == [*range(5, 501, 5)]
    assert len({name for name in names if name}) == 100


def test_nothing_waits_before_anything_is_sent() -> None:
    buffer = PhoneBuffer()
    assert buffer.waiting_ms(5.0) == 0.0
    assert buffer.end_s(5.0) == float("-inf")
    buffer.cleared(5.0)
    assert buffer.waiting_ms(5.0) == 0.0
