"""The ledger balances on any day, and tells what happened in plain words."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import pytest

from personaplex_bridge.config import Settings
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.faults import (
    NO_CALL_FAULTS,
    NO_MODEL_FAULTS,
    CallFaults,
    Jitter,
    ModelFaults,
    Slow,
    Spell,
)
from personaplex_bridge.simulator.ledger import Ledger, count_frames
from personaplex_bridge.simulator.model import ModelOptions
from tests.live.harness import COLD, full_line, speech
from tests.virtual import run_cleanly

SPEECH = speech()[: 8000 * 10]
RINGING = b"\x10" * 160 * 50


@dataclass(frozen=True)
class Day:
    """A call of ten seconds, what goes wrong in it, and what has to show."""

    shows: str = ""
    model: ModelFaults = NO_MODEL_FAULTS
    phone: CallFaults = NO_CALL_FAULTS
    settings: Settings = COLD
    behave: str = "echo"
    prompt_ms: int = 300
    rings: bool = False


async def _ledger_of(day: Day) -> Ledger:
    options = ModelOptions(day.behave, prompt_ms=day.prompt_ms, faults=day.model)
    sound = RINGING if day.rings else None
    async with full_line(options, day.settings, waiting_sound=sound) as (line, model):
        report = await line.call(CallPlan("", SPEECH, hang_up_after_s=10.0, faults=day.phone))
        return count_frames(report, await line.record(), model.sessions[-1])


JITTER = Jitter(120.0)


def cold(**changes: Any) -> Settings:
    return dataclasses.replace(COLD, **changes)


DAYS = {
    "calm": Day(),
    "a warm line": Day(settings=Settings()),
    "soxr": Day("bridge_unsent bridge_unplayed", settings=cold(transcoder="soxr")),
    "soxr, a packet a page": Day(
        "bridge_unsent", settings=cold(transcoder="soxr", packets_per_page=1)
    ),
    "a long prompt": Day("bridge_dropped bridge_shortened", prompt_ms=4000),
    "it rings": Day("bridge_rang phone_cleared", prompt_ms=2000, rings=True),
    "the phone loses frames": Day(
        "bridge_filled", phone=CallFaults(lose=25, lose_frames=(Spell(3.0, 0.7),))
    ),
    "the phone doubles frames": Day("bridge_doubled", phone=CallFaults(double=20)),
    "the phone's socket blocks": Day(phone=CallFaults(block=(Spell(4.0, 3.0),))),
    "the phone's network jitters": Day(phone=CallFaults(jitter=JITTER)),
    "the phone drifts": Day(phone=CallFaults(drift_ppm=5000)),
    "the model loses pages": Day("model_lost bridge_made_up", ModelFaults(lose=10)),
    "the model spoils pages": Day(model=ModelFaults(corrupt=10)),
    "the model pauses": Day(
        "bridge_dropped",
        ModelFaults(pause=(Spell(3.0, 2.5),)),
        settings=cold(uplink_backlog_ms=160),
    ),
    "the model is slow": Day("bridge_shortened", ModelFaults(slow=(Slow(0.5, Spell(2.0, 5.0)),))),
    "the model's network jitters": Day("bridge_cushion", ModelFaults(jitter=JITTER)),
    "the model's network ends badly": Day("model_held", ModelFaults(jitter=Jitter(900.0))),
    "the model's socket blocks": Day(
        "bridge_overdue",
        ModelFaults(block=(Spell(3.0, 2.0),)),
        settings=cold(downlink_backlog_ms=200),
    ),
    "the caller interrupts": Day(
        "bridge_cleared", ModelFaults(block=(Spell(3.0, 1.0),)), behave="tone"
    ),
    "all at once": Day(
        "bridge_rang bridge_filled bridge_doubled bridge_made_up model_lost",
        ModelFaults(pause=(Spell(2.0, 0.5),), jitter=JITTER, lose=20, corrupt=15),
        CallFaults(block=(Spell(5.0, 0.4),), lose=25, double=40, jitter=JITTER),
        rings=True,
    ),
}


@pytest.mark.parametrize("name", DAYS)
def test_every_day_balances(name: str) -> None:
    day = DAYS[name]
    ledger = run_cleanly(_ledger_of(day))
    assert ledger.uplink_difference == 0, ledger
    assert ledger.downlink_difference == 0, ledger
    assert [term for term in day.shows.split() if not getattr(ledger, term)] == [], ledger


LEDGER = Ledger(
    phone_sent=500,
    bridge_received=500,
    bridge_filled=4,
    bridge_doubled=0,
    bridge_shortened=12,
    bridge_dropped=0,
    bridge_unsent=2,
    bridge_gated=80,
    bridge_encoded=490,
    model_heard=488,
    model_said=480,
    model_lost=8,
    model_held=0,
    bridge_decoded=468,
    bridge_made_up=8,
    bridge_cushion=0,
    bridge_pauses=0,
    bridge_overdue=0,
    bridge_cleared=16,
    bridge_unplayed=0,
    bridge_sent=460,
    bridge_rang=50,
    phone_received=510,
    phone_cleared=4,
    phone_still_playing=0,
)
NOT_COUNTED = {"bridge_gated", "phone_cleared", "phone_still_playing"}
"""Parts of other terms."""


def test_what_is_not_zero_is_told_by_name() -> None:
    assert LEDGER.lines() == [
        "to the model, frames of 20 ms: the phone sent 500; the bridge received 500, put in "
        "silence for 4 that were missing, left out 12 of pauses, had 2 left at the end, sent on "
        "490, 80 of them as silence, without voice; the model heard 488, and 2 of its next "
        "frame; lost or doubled: 0",
        "to the caller: the model said 480, 8 lost on purpose, 4 under way at hang-up; the bridge "
        "decoded 468, made up 8 that were missing, dropped 16 for an interruption, sent on 460, "
        "and 50 of the sound before the model was ready; the phone received 510, 4 cleared "
        "before they were played; lost or doubled: 0",
        "the model was 160 ms behind what it had heard",
    ]


@pytest.mark.parametrize(
    "term", [field.name for field in dataclasses.fields(Ledger) if field.name not in NOT_COUNTED]
)
def test_two_steps_too_many_anywhere_are_seen(term: str) -> None:
    """One may be under way."""
    wrong = dataclasses.replace(LEDGER, **{term: getattr(LEDGER, term) + 8})
    assert wrong.uplink_difference + wrong.downlink_difference > 0
