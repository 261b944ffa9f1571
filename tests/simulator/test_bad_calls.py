"""Whole calls through a bridge on which both stand-ins misbehave, in virtual time."""

from __future__ import annotations

import dataclasses
import itertools

import pytest

from personaplex_bridge.clock import LoopClock
from personaplex_bridge.record import CallRecord
from personaplex_bridge.simulator.alignment import find_speech
from personaplex_bridge.simulator.caller import CallPlan
from personaplex_bridge.simulator.conversation import ModelSession
from personaplex_bridge.simulator.faults import CallFaults, Jitter, ModelFaults, Spell
from personaplex_bridge.simulator.ledger import count_frames
from personaplex_bridge.simulator.model import ModelOptions
from personaplex_bridge.simulator.report import PhoneReport
from tests.live.harness import full_line, speech
from tests.virtual import run_cleanly

LENGTH_S = 8.0
SPEECH = speech()[: int(LENGTH_S * 8000)]
PLAN = CallPlan("", SPEECH, hang_up_after_s=LENGTH_S)

Seen = tuple[PhoneReport, CallRecord, ModelSession]


async def _call(model_faults: ModelFaults, call_faults: CallFaults, plan: CallPlan) -> Seen:
    clock = LoopClock()
    options = ModelOptions("echo", prompt_ms=300, faults=model_faults)
    async with full_line(options, clock=clock) as (line, model):
        report = await line.call(dataclasses.replace(plan, faults=call_faults), clock)
        return report, await line.record(), model.sessions[0]


def call(model_faults: ModelFaults, call_faults: CallFaults, plan: CallPlan = PLAN) -> Seen:
    return run_cleanly(_call(model_faults, call_faults, plan))


def test_a_calm_call_has_no_gap() -> None:
    report, record, model = call(ModelFaults(), CallFaults())
    assert report.gaps == []
    assert report.clears == []
    assert count_frames(report, record, model).uplink_difference == 0


def test_each_frame_is_accounted_for_on_a_bad_day() -> None:
    model_faults = ModelFaults(pause=(Spell(2.0, 0.5),), jitter=Jitter(60.0), lose=20, corrupt=15)
    call_faults = CallFaults(
        block=(Spell(5.0, 0.4),), lose=25, double=40, jitter=Jitter(40.0), answer_after_s=0.3
    )
    report, record, model = call(model_faults, call_faults)
    ledger = count_frames(report, record, model)
    assert ledger.uplink_difference == 0
    assert ledger.downlink_difference == 0
    assert ledger.model_lost == model.lost * 4 > 0
    assert ledger.phone_sent == 400 - 400 // 25 + (400 // 40 - 400 // 200)
    assert record.audio_damage["corrupt-packet"] == model.corrupted > 0
    assert report.problems == []


def test_after_a_stall_the_model_hears_the_caller_wait() -> None:
    """A model that is sent nothing can't answer: to catch up, a pause is shortened, not removed."""
    plan = CallPlan("", SPEECH[: 8000 * 4], hang_up_after_s=LENGTH_S)
    _, _, model = call(ModelFaults(pause=(Spell(3.0, 1.0),)), CallFaults(), plan)
    after_s = [at for at in model.heard_at if at > model.heard_at[0] + 4.5]
    assert after_s[-1] - after_s[0] > 3.0
    assert max(later - before for before, later in itertools.pairwise(after_s)) < 0.3


@pytest.mark.parametrize("at_s", [0.1, 0.3, 1.0, 3.0])
def test_a_stall_of_the_phone_leaves_no_delay(at_s: float) -> None:
    """Not even one before the first mark is back, when nothing is known of the phone yet."""
    plan = CallPlan("", speech()[: 8000 * 20], hang_up_after_s=22.0)
    report, _, _ = call(ModelFaults(), CallFaults(block=(Spell(at_s, 3.0),)), plan)
    matches = find_speech(plan.speech, bytes(report.heard), within_s=5.0)
    late = [match for match in matches if match.at_s > 8.0]
    assert len(late) > 4
    assert all(match.found for match in late)
    # 129 ms on a calm day; what isn't worth a pause may stay.
    assert max(match.delay_s for match in late) < 0.129 + 0.061


def test_a_bad_day_is_the_same_each_time() -> None:
    model_faults = ModelFaults(pause=(Spell(2.0, 1.5),), jitter=Jitter(60.0))
    call_faults = CallFaults(block=(Spell(3.0, 0.4),), jitter=Jitter(40.0))
    (first, _, model), (second, _, model_again) = (
        call(model_faults, call_faults) for _ in range(2)
    )
    assert (first.sent_at, first.media_at) == (second.sent_at, second.media_at)
    assert first.heard == second.heard
    assert (model.heard_at, model.said_at) == (model_again.heard_at, model_again.said_at)
    assert first.gaps == second.gaps
    assert first.gaps != []
