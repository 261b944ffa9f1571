"""Step times from outside, whatever the length of messages."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.audio.opus import packet_samples
from personaplex_bridge.audio.uplink import make_uplink
from personaplex_bridge.gate.pages import samples_in
from personaplex_bridge.gate.steps import StepMeter, Steps


class Stream:
    """Pages of so many milliseconds, without any sound worth hearing."""

    def __init__(self, page_ms: int) -> None:
        self._writer = OggWriter(42)
        self._packets = [bytes([1 << 3, 1, 2])] * (page_ms // 20)  # SILK, 20 ms

    def headers(self) -> bytes:
        return self._writer.page([opus_head(312, 24_000)], 0) + self._writer.page(
            [opus_tags("x")], 0
        )

    def page(self) -> bytes:
        return self._writer.page(self._packets, 0)


def steps_of(page_ms: int, step_ms: float, frames: int) -> Steps:
    """A caller in real time, and a model that takes so long for a step."""
    steps = Steps()
    meter, caller, model = StepMeter(steps), Stream(page_ms), Stream(80)
    meter.said(model.headers(), 0.0)
    meter.heard(caller.headers(), 0.0)
    free_s = 0.0
    events = [
        (page * page_ms / 1000, meter.heard, caller) for page in range(frames * 80 // page_ms)
    ]
    for frame in range(1, frames + 1):
        complete_s = (frame * 80 // page_ms - 1) * page_ms / 1000
        free_s = max(free_s, complete_s) + step_ms / 1000
        events.append((free_s, meter.said, model))
    for moment_s, tell, stream in sorted(events, key=lambda event: event[0]):
        tell(stream.page(), moment_s)
    return steps


@pytest.mark.parametrize("page_ms", [20, 40, 80])
@pytest.mark.parametrize(
    ("step_ms", "keeps_up"), [(53, True), (79, True), (81, False), (130, False)]
)
def test_steps_are_measured_exactly(page_ms: int, step_ms: float, keeps_up: bool) -> None:
    times = steps_of(page_ms, step_ms, 150).times
    assert times is not None
    assert times.steps == 150
    assert (times.median_ms, times.p95_ms) == (step_ms, step_ms)
    assert times.keeps_up is keeps_up


def test_split_pages_are_not_measured() -> None:
    steps = Steps()
    meter, stream = StepMeter(steps), Stream(80)
    page = stream.page()
    for piece in (page[:40], page[40:], stream.page()):
        meter.heard(piece, 0.0)
    meter.said(stream.page(), 1.0)
    assert steps.times is None


def test_the_bridges_own_pages_are_counted() -> None:
    for packets_per_page in (1, 2, 4):
        uplink = make_uplink("native", packets_per_page)
        assert samples_in(uplink.headers()) == 0
        pages = uplink.feed(b"\x12" * 1600)
        assert sum(map(samples_in, pages)) == len(pages) * packets_per_page * 960


@given(st.binary(min_size=2, max_size=80))
def test_durations_are_those_of_libopus(packet: bytes) -> None:
    try:
        expected = packet_samples(packet, 48_000)
    except Exception:
        return
    assert samples_in(OggWriter(1).page([packet], 0)) == expected


@given(st.binary(max_size=400))
def test_any_bytes_are_counted_or_refused(message: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert samples_in(message) >= 0
