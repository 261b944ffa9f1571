"""The conversation stays in time: whole calls over real sockets, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from websockets.asyncio.server import ServerConnection

from personaplex_bridge.audio.format import TELEPHONE
from personaplex_bridge.audio.mulaw import FRAME_BYTES, loudness
from personaplex_bridge.audio.ogg import OggWriter
from personaplex_bridge.audio.oggopus import opus_head, opus_tags
from personaplex_bridge.audio.ringback import ringback
from personaplex_bridge.clock import LoopClock
from personaplex_bridge.config import Settings
from personaplex_bridge.personas import load_catalogue
from personaplex_bridge.pool import make_pool
from personaplex_bridge.record import CallRecord, EndedBy
from personaplex_bridge.simulator import virtual_time
from personaplex_bridge.simulator.alignment import find_speech
from personaplex_bridge.simulator.caller import CallPlan, PhoneCall
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.faults import CallFaults, Jitter, ModelFaults, Slow, Spell, is_nth
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.report import PhoneReport
from personaplex_bridge.simulator.talk import Talk, without_pauses
from personaplex_bridge.values import ServerAddress
from personaplex_bridge.web.bridge import Bridge
from personaplex_bridge.web.hosting import hosted
from personaplex_bridge.web.paths import WEBHOOK_PATH
from tests.live.harness import HOST, raw_model, speech, standin

PLAIN = Settings(warm_lines=False, barge_in=False, noise_gate="off")
"""What is heard is what was said."""
ECHO = ModelOptions("echo", prompt_ms=0)
QUIET = b"\xff" * FRAME_BYTES
RING = ringback("us")
QUIET_STEP = np.zeros(1920, np.int16)


@dataclass(frozen=True)
class Call:
    """What a call came to, as its three sides tell it."""

    phone: PhoneReport
    record: CallRecord
    model: ModelSession | None
    plan: CallPlan

    @property
    def loud(self) -> list[bool]:
        """Of each 20 ms whether the caller heard sound."""
        return loudness(bytes(self.phone.heard))

    def delays_s(self, begin_s: float, end_s: float) -> list[float]:
        """How much later the caller heard what they had said in this time."""
        matches = find_speech(self.plan.speech, bytes(self.phone.heard), within_s=5)
        return [m.delay_s for m in matches if m.found and begin_s <= m.at_s < end_s]


@asynccontextmanager
async def bridge(
    url: str, settings: Settings, ring: bytes | None
) -> AsyncIterator[tuple[str, list[CallRecord]]]:
    """A bridge's webhook, and the records of its calls."""
    catalogue, records = load_catalogue(), list[CallRecord]()
    pool = make_pool(settings, [ServerAddress(url)], catalogue.get(settings.persona).role)
    rings = {TELEPHONE: ring} if ring else {}
    app = Bridge(
        settings, catalogue, pool, records.append, waiting_sounds=rings, clock=LoopClock()
    ).application()
    async with hosted(app, HOST, 0) as port:
        if settings.warm_lines:
            await asyncio.sleep(10)
        yield f"http://{HOST}:{port}{WEBHOOK_PATH}", records


async def _call(
    plan: CallPlan, options: ModelOptions, settings: Settings, ring: bytes | None
) -> Call:
    clock = LoopClock()
    async with standin(options, clock) as (url, model):
        async with bridge(url, settings, ring) as (webhook, records):
            phone = await PhoneCall(replace(plan, webhook_url=webhook), clock).run()
            await asyncio.sleep(1)
        assert model.crowded == 0
        return Call(phone, records[0], model.sessions[0], plan)


def call(
    said: bytes,
    seconds: float,
    options: ModelOptions = ECHO,
    faults: CallFaults | None = None,
    settings: Settings = PLAIN,
    ring: bytes | None = None,
) -> Call:
    plan = CallPlan("", said, hang_up_after_s=seconds, faults=faults or CallFaults())
    done = virtual_time.run(_call(plan, options, settings, ring))
    assert done.phone.problems == []
    return done


def dense_speech(seconds: float) -> bytes:
    """The shipped caller with pauses of 600 ms at most, again and again."""
    dense = without_pauses(speech(), 30)
    return (dense * (int(seconds * 8000) // len(dense) + 1))[: int(seconds * 8000)]


def frames_of(call: Call, begin_s: float, end_s: float) -> list[bool]:
    return call.loud[round(begin_s * 50) : round(end_s * 50)]


# Until the model is ready


def test_it_rings_until_the_model_is_ready_and_stops_at_once() -> None:
    ready_s = 3.0
    rung = call(b"", 6.0, ModelOptions("silence", prompt_ms=int(ready_s * 1000)), ring=RING)
    assert rung.record.handshake_s == pytest.approx(ready_s, abs=0.1)
    assert rung.phone.first_sound_s is not None
    assert rung.phone.first_sound_s < 0.2
    heard = bytes(rung.phone.heard)
    begin = heard.index(RING[:FRAME_BYTES])
    assert heard[begin:][: 2 * 8000] == RING[: 2 * 8000]
    assert not any(frames_of(rung, ready_s, 6.0))


@pytest.mark.parametrize("ready_s", [1.0, 1.7])
def test_a_ring_is_cut_off_in_its_middle(ready_s: float) -> None:
    rung = call(b"", 6.0, ModelOptions("silence", prompt_ms=int(ready_s * 1000)), ring=RING)
    handshake_s = rung.record.handshake_s or 0.0
    (cleared,) = rung.phone.clears
    assert cleared.at_s == pytest.approx(handshake_s, abs=0.02)
    assert all(frames_of(rung, 0.2, handshake_s - 0.04))
    assert not any(frames_of(rung, handshake_s + 0.04, 6.0))


def test_a_warm_line_does_not_ring() -> None:
    settings = replace(PLAIN, warm_lines=True)
    warm = call(speech(), 10.0, ModelOptions("echo", prompt_ms=3000), settings=settings, ring=RING)
    assert warm.record.handshake_s == pytest.approx(0.0, abs=0.01)
    assert warm.phone.clears == []
    assert warm.phone.first_sound_s is not None
    assert RING[:FRAME_BYTES] not in bytes(warm.phone.heard)
    assert warm.record.first_audio_s is not None
    assert warm.record.first_audio_s < 0.3


def test_the_first_words_are_kept_without_the_silence_around_them() -> None:
    """800 ms of speech early in a prompt of 5 s are heard right after it, in order."""
    words = speech()
    begin = words.index(without_pauses(words, 0)[:FRAME_BYTES])
    word = words[begin : begin + 40 * FRAME_BYTES]
    said = QUIET * 25 + word + QUIET * 250 + words
    early = call(said, 9.0, ModelOptions("echo", prompt_ms=5000))
    assert early.record.dropped_frames == 0
    assert early.record.shortened_frames > 100
    (first, *_) = find_speech(QUIET * 10 + word, bytes(early.phone.heard))
    assert first.found
    handshake_s = early.record.handshake_s or 0.0
    assert handshake_s < first.delay_s + 0.2 < handshake_s + 0.6


# Frames lost and doubled


@pytest.mark.parametrize(
    "faults",
    [
        CallFaults(),
        CallFaults(lose=10),
        CallFaults(double=10),
        CallFaults(lose=7, double=5),
        CallFaults(lose_frames=(Spell(3.0, 0.5),)),
        CallFaults(lose_frames=(Spell(3.0, 5.0),)),
    ],
)
def test_model_time_is_phone_time_whatever_is_lost_or_doubled(faults: CallFaults) -> None:
    seconds = 26
    shaken = call(dense_speech(seconds), seconds, faults=faults)
    record, model = shaken.record, shaken.model
    assert model is not None
    phone_frames = seconds * 50
    assert abs(model.frames_in * 4 + record.shortened_frames - phone_frames) <= 4
    assert record.dropped_frames == 0
    numbers = range(1, phone_frames + 1)
    lost = {n for n in numbers if _is_lost(n, faults)}
    twice = {n for n in numbers if faults.double and n % faults.double == 0} - lost
    assert record.caller_frames == phone_frames - len(lost) + len(twice)
    assert record.doubled_frames == len(twice)
    assert abs(record.filled_frames - len(lost)) <= 4
    delays = shaken.delays_s(18.0, 25.0)
    assert max(delays) - min(delays) < 0.1


def _is_lost(number: int, faults: CallFaults) -> bool:
    """Whether the stand-in loses a frame, numbered from 1."""
    in_spell = any(spell.covers((number - 1) * 0.02) for spell in faults.lose_frames)
    return in_spell or is_nth(number, faults.lose)


# Lag is worked off


STALLS = {
    "model pause": (ModelFaults(pause=(Spell(20.0, 2.0),)), CallFaults()),
    "model block": (ModelFaults(block=(Spell(20.0, 2.0),)), CallFaults()),
    "model slow": (ModelFaults(slow=(Slow(0.8, Spell(12.0, 10.0)),)), CallFaults()),
    "Twilio block": (ModelFaults(), CallFaults(block=(Spell(20.0, 2.0),))),
}


@pytest.mark.parametrize("name", STALLS)
def test_after_a_stall_the_conversation_is_back_in_time_within_ten_seconds(name: str) -> None:
    model, twilio = STALLS[name]
    stalled = call(dense_speech(50), 55.0, replace(ECHO, faults=model), twilio)
    before = sorted(stalled.delays_s(2.0, 11.0))
    after = stalled.delays_s(32.0, 48.0)
    assert len(before) >= 5
    assert len(after) >= 8
    usual_s = before[len(before) // 2]
    assert max(after) <= usual_s + 0.1


@pytest.mark.parametrize("way_ms", [30, 100, 115, 200])
def test_a_long_way_to_the_model_is_no_lag(way_ms: float) -> None:
    """Not even after Twilio has stalled for a moment: nothing of a silent caller is left out, and
    the model talks on without gaps.
    """
    settings = replace(PLAIN, noise_gate="auto")
    way = ModelFaults(jitter=Jitter(way_ms + 8, least_ms=way_ms))
    hiccup = CallFaults(block=(Spell(5.0, 0.2),))
    options = ModelOptions("talk", prompt_ms=0, faults=way)
    outcome = call(QUIET * 2000, 40.0, options, hiccup, settings)
    assert outcome.record.shortened_frames <= 20
    assert [gap for gap in outcome.phone.gaps if gap.at_s > 6.0] == []


def test_without_a_target_a_lag_stays() -> None:
    faults = ModelFaults(pause=(Spell(10.0, 0.6),))
    settings = replace(PLAIN, lag_target_ms=None)
    stalled = call(dense_speech(25), 28.0, replace(ECHO, faults=faults), settings=settings)
    assert stalled.record.pauses_shortened_frames == 0
    assert min(stalled.delays_s(15.0, 24.0)) > max(stalled.delays_s(2.0, 8.0)) + 0.3


# Barge-in


async def says_a_second_at_once(socket: ServerConnection) -> None:
    """A model that says 1.2 s of speech at once, at 2 s, and more from 5 s on, in time."""
    talk, writer, clock = Talk(), OggWriter(42), LoopClock()
    began = clock.now()
    await socket.send(b"\x00")
    for header in (opus_head(0, 24_000), opus_tags("raw")):
        await socket.send(b"\x01" + writer.page([header], 0))
    for number in range(65):
        due_s = 2.0 if number < 15 else 5.0 + 0.08 * (number - 15)
        await clock.sleep_until(began + due_s)
        await socket.send(b"\x01" + writer.page([talk.step(QUIET_STEP).packet], 0))
    await socket.wait_closed()


def interrupted(said: bytes, settings: Settings, faults: CallFaults | None = None) -> Call:
    async def run() -> Call:
        plan = CallPlan("", said, hang_up_after_s=9.0, faults=faults or CallFaults())
        async with (
            raw_model(says_a_second_at_once) as url,
            bridge(url, settings, None) as (webhook, records),
        ):
            phone = await PhoneCall(replace(plan, webhook_url=webhook), LoopClock()).run()
            await asyncio.sleep(1)
        return Call(phone, records[0], None, plan)

    return virtual_time.run(run())


ONSET_S = 2.2


def voice_at(onset_s: float, frames: int) -> bytes:
    """Speech from the shipped caller, without pauses."""
    spoken = without_pauses(speech(), 0)[: frames * FRAME_BYTES]
    return QUIET * round(onset_s * 50) + spoken


def test_an_interruption_silences_the_phone_and_what_comes_later_is_heard() -> None:
    call = interrupted(voice_at(ONSET_S, 40), replace(PLAIN, barge_in=True))
    assert any(frames_of(call, 2.04, ONSET_S))
    assert not any(frames_of(call, ONSET_S + 0.25, 5.0))
    (interruption,) = call.record.barge_ins
    assert interruption.waiting_ms > 700
    assert interruption.at_s == pytest.approx(ONSET_S, abs=0.1)
    assert call.record.cleared_frames > 20
    assert any(frames_of(call, 5.5, 8.0)), "the model is heard again"


def test_a_backchannel_interrupts_nothing() -> None:
    call = interrupted(voice_at(ONSET_S, 12), replace(PLAIN, barge_in=True))
    assert list(call.record.barge_ins) == []
    assert call.record.cleared_frames == 0
    sound = sum(frames_of(call, 2.0, 5.0))
    assert sound > 40, "all of the second is heard, a little later"


def test_audio_is_not_held_back_for_a_caller_whose_frames_stop_coming() -> None:
    said = voice_at(ONSET_S, 10)
    call = interrupted(
        said, replace(PLAIN, barge_in=True), CallFaults(lose_frames=(Spell(ONSET_S + 0.2, 3.0),))
    )
    assert sum(frames_of(call, ONSET_S + 0.2, 4.0)) > 30
    assert call.record.cleared_frames == 0


def test_without_barge_in_the_model_talks_on() -> None:
    call = interrupted(voice_at(ONSET_S, 40), PLAIN)
    assert list(call.record.barge_ins) == []
    assert sum(frames_of(call, 2.0, 3.4)) > 40


# Damage


@pytest.mark.parametrize("faults", [ModelFaults(lose=10), ModelFaults(corrupt=10)])
def test_missing_and_corrupt_pages_are_made_up_in_their_place(faults: ModelFaults) -> None:
    damaged = call(dense_speech(20), 22.0, replace(ECHO, faults=faults))
    record, model = damaged.record, damaged.model
    assert model is not None
    assert model.lost + model.corrupted > 20
    assert abs(record.concealed_packets - model.lost - model.corrupted) <= 1
    assert record.model_frames >= 4 * (model.frames_out - 2)
    delays = damaged.delays_s(2.0, 18.0)
    assert len(delays) >= 8
    assert max(delays) - min(delays) < 0.05
    assert record.uplink_lag.max_ms < 100


# The record


def test_the_record_is_filled_and_consistent() -> None:
    faults = ModelFaults(pause=(Spell(8.0, 1.0),), lose=25)
    full = call(
        speech(),
        30.0,
        ModelOptions("repeat", prompt_ms=1000, faults=faults),
        CallFaults(lose=50, double=40),
        settings=replace(PLAIN, barge_in=True),
        ring=RING,
    )
    record, phone = full.record, full.phone
    assert record.ending is not None
    assert (record.ending.by, record.ending.close_code) == (EndedBy.CALLER, 1000)
    assert record.duration_s == pytest.approx(30.0, abs=0.1)
    assert record.handshake_s == pytest.approx(1.0, abs=0.1)
    assert record.handshake_s is not None
    assert record.first_sent_s is not None
    assert record.first_audio_s is not None
    assert record.handshake_s <= record.first_sent_s <= record.first_audio_s < 1.5
    assert record.caller_frames == phone.frames_sent
    sent = record.uplink_packets + record.shortened_frames + record.dropped_frames
    assert record.caller_frames + record.filled_frames == (
        record.doubled_frames + sent + record.unsent_frames
    )
    left = record.pauses_shortened_frames + record.overdue_frames + record.cleared_frames
    assert record.model_frames + record.cushion_frames == (
        left + record.unplayed_frames + record.downlink_frames
    )
    for lag in (record.uplink_lag, record.downlink_lag):
        assert 0 <= lag.p50_ms <= lag.p99_ms <= lag.max_ms
    assert record.uplink_lag.max_ms >= 300, "the pause"
    assert record.turn_delays_s
    assert all(0 < delay_s < 5 for delay_s in record.turn_delays_s)
    assert record.gap_ms >= record.gaps
    assert "call over: the caller hung up" in record.summary()
